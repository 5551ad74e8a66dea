"""Paths between points: t = 0 is A and t = 1 is B with all their state, and what a network between them holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import spectral_norm

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.network import NormPolicy
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm`:FutureWarning")
HIDDEN = 5
SUITE = mc.Suite({"cue": rows(24), "hue": rows(20, 1)})


class Held(nn.Module):
    """A network with a buffer beside its weights, which each seed draws anew."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x))


class Masked(Held):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.arange(HIDDEN) != torch.randint(HIDDEN, ())).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x) * self.get_buffer("mask"))


class Tempered(Held):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.rand(()) + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x)) / self.get_buffer("temperature")


class Coded(Held):
    """Hidden values are rounded to the nearest entry of a code book."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(7))

    def forward(self, x: Tensor) -> Tensor:
        codes = self.get_buffer("codes")
        return self.head(codes[(self.hidden(x)[..., None] - codes).abs().argmin(-1)])


class OwnStatistics(Held):
    """It centres by a moving mean of its own, which no rule of torch's knows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.randn(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x) - self.get_buffer("centre"))


class Counted(Held):
    """A counter that its outputs do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.randint(1000, ()))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


def spectral() -> nn.Module:
    return nn.Sequential(spectral_norm(nn.Linear(FEATURES, HIDDEN)), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


def spectral_by_hook() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(FEATURES, HIDDEN)), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


FACTORIES: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": norm_mlp,
    "spectral norm": spectral,
    "spectral norm, by a hook": spectral_by_hook,
    "mask": Masked,
    "temperature": Tempered,
    "code book": Coded,
    "own statistics": OwnStatistics,
}
DIFFERING = ["mask", "temperature", "code book", "own statistics"]
NORM = {"BatchNorm": mc.InterpolateNorm()}


def used(factory: Callable[[], nn.Module], seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """After a few steps of training, which move what layers keep beside their weights."""
    model = build(factory, seed, dtype).train()
    x, y = rows(24, seed, dtype)
    with isolate_rng(seed, "steps"):
        descent = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(5):
            descent.zero_grad()
            cross_entropy(model(x), y).backward()
            descent.step()
    return model.requires_grad_(False).eval()


def ends(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    return used(FACTORIES[name], 1, dtype), used(FACTORIES[name], 2, dtype)


def between(a: nn.Module, b: nn.Module) -> mc.LinearPath:
    """Of points, which may differ in everything but their names and shapes."""
    return mc.LinearPath.between(mc.point_of(a), mc.point_of(b))


def check_same(found: nn.Module, expected: nn.Module) -> None:
    state = found.state_dict()
    assert list(state) == list(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        assert torch.equal(state[name], tensor), name


LOGITS: dict[str, Any] = {f"logit {k}": lambda outputs, _, k=k: outputs[:, k] for k in range(CLASSES)}


# ---------------------------------------------------------------- the ends


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", FACTORIES)
def test_the_ends_are_the_networks_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    a, b = ends(name, dtype)
    if name in DIFFERING:
        assert any(not torch.equal(tensor, b.get_buffer(key)) for key, tensor in a.named_buffers())
    path, x = between(a, b), rows(24, dtype=dtype)[0]
    for model in (a, b, build(FACTORIES[name], 5, dtype)):  # whichever gives the architecture
        for t, end in ((0.0, a), (1.0, b)):
            here = mc.model_at(model, path, t, norm=NORM.get(name))
            check_same(here, end)
            assert torch.equal(here(x), end(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", FACTORIES)
def test_the_ends_are_evaluated_as_the_networks_are(name: str, dtype: torch.dtype) -> None:
    a, b = ends(name, dtype)
    data = rows(24, dtype=dtype)
    suite = mc.Suite({"cue": data})
    profile = mc.evaluate_path(a, between(a, b), suite, 2, norm=NORM.get(name), metrics=LOGITS, keep_samples=True)
    for number, end in enumerate((a, b)):
        outputs = end(data[0])
        for k in range(CLASSES):
            assert torch.equal(profile.per_sample[f"logit {k}"]["cue"][number].to(dtype), outputs[:, k])
        measured = mc.measure_invariance(end, suite)
        assert profile.loss["cue"][number] == measured.loss["cue"]
        saved = profile.saved[number]
        assert saved is not None and (saved.loss, saved.accuracy) == (measured.loss, measured.accuracy)
    assert profile.shifted_ends(1e-12) == ()


@pytest.mark.parametrize("name", FACTORIES)
def test_a_soup_of_one_share_is_that_network(name: str) -> None:
    a, b = ends(name)
    check_same(mc.soup([a, mc.point_of(b)], weights=[0, 1], norm=NORM.get(name)), b)
    if name not in NORM:  # interpolation needs a path, which three networks do not make
        check_same(mc.soup([a, mc.point_of(b), mc.point_of(a)], weights=[0, 2, 0]), b)
    if name not in DIFFERING:
        check_same(mc.soup([a, b], weights=[0, 1], norm=NORM.get(name)), b)
        check_same(mc.soup([a, b], weights=[1, 0], norm=NORM.get(name)), a)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_path_of_points_runs_backwards_and_in_parts(name: str) -> None:
    a, b = ends(name)
    path, norm = between(a, b), NORM.get(name)
    for t, end in ((0.0, b), (1.0, a)):
        check_same(mc.model_at(a, path.reversed(), t, norm=norm), end)
    check_same(mc.model_at(a, path.sub(0.5, 1.0), 1.0, norm=norm), b)
    check_same(mc.model_at(a, path.sub(0.5, 0.0), 1.0, norm=norm), a)
    check_same(mc.model_at(a, path.sub(0.25, 1.0).reversed(), 0.0, norm=norm), b)
    if name in DIFFERING:
        with pytest.raises(ValueError, match="the ends of the path differ in"):
            mc.model_at(a, path.sub(0.5, 1.0), 0.0)
        return
    part, whole = (mc.model_at(a, where, t, norm=norm) for where, t in ((path.sub(0.5, 1.0), 0.5), (path, 0.75)))
    check_same(part, whole)
    back = mc.model_at(a, path.reversed(), 0.25, norm=norm)
    check_same(back, whole)


def test_paths_with_bends_have_the_same_ends() -> None:
    a, b = ends("spectral norm")
    for kind in (mc.PolygonalPath, mc.BezierPath):
        path = kind.between(a, b, [mc.LinearPath.between(a, b).at(0.3)])
        check_same(mc.model_at(a, path, 0.0), a)
        check_same(mc.model_at(a, path, 1.0), b)
        assert len(path.points) == 3


def test_a_fitted_path_has_the_networks_at_its_ends() -> None:
    for name in ("BatchNorm", "spectral norm"):
        a, b = ends(name)
        path = mc.fit_path(build(FACTORIES[name]), a, b, mc.BezierFit(epochs=1, batch_size=8), rows(24)).path
        check_same(mc.model_at(a, path, 0.0, norm=NORM.get(name)), a)
        check_same(mc.model_at(a, path, 1.0, norm=NORM.get(name)), b)


def test_points_are_copies_of_what_a_network_holds() -> None:
    a = used(norm_mlp, 1)
    point = mc.point_of(a)
    assert list(point.params) == [name for name, _ in a.named_parameters()]
    assert list(point.buffers) == [name for name, _ in a.named_buffers()]
    assert repr(point) == "Point(53 parameters in 6 tensors, 3 buffers)"
    before = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    for tensor in (*point.params.values(), *point.buffers.values()):
        assert not tensor.requires_grad
        tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in a.state_dict().items())


# ---------------------------------------------------------------- between the ends


@pytest.mark.parametrize("kind", ["spectral norm", "spectral norm, by a hook"])
@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_spectral_norm_divides_by_the_largest_singular_value_between_the_ends(kind: str, t: float) -> None:
    a, b = ends(kind)
    path = mc.LinearPath.between(a, b)
    here = mc.model_at(a, path, t)
    name = next(name for name in path.at(t) if "0." in name and "orig" in name)
    weight = path.at(t)[name]
    here(rows(4)[0])
    found: Any = here.get_submodule("0")
    assert float(torch.linalg.matrix_norm(found.weight, 2)) == pytest.approx(1.0, rel=1e-9)
    torch.testing.assert_close(found.weight, weight / torch.linalg.matrix_norm(weight, 2), rtol=1e-9, atol=1e-12)
    profile = mc.evaluate_path(a, path, SUITE, [0.0, t, 1.0], metrics=LOGITS)
    assert profile.metrics["logit 0"]["cue"][1] == pytest.approx(float(here(rows(24)[0])[:, 0].mean()), rel=1e-9)


def test_with_spectral_norm_the_path_ends_where_b_is() -> None:
    """B's loss by itself, at t = 1, as a soup of B alone, and at the ends of a map's barrier are one number."""
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    suite = mc.Suite({"cue": (x, y), "r": (x.flip(1), y)}, reference="cue")

    def trained(seed: int) -> nn.Module:
        with isolate_rng(seed, "spectral norm"):
            layers = spectral_norm(nn.Linear(6, 16)), nn.ReLU(), spectral_norm(nn.Linear(16, 16)), nn.ReLU()
            model = nn.Sequential(*layers, nn.Linear(16, 2))
            descent = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
            for _ in range(100):
                i = torch.randint(0, 400, (64,))
                descent.zero_grad()
                cross_entropy(model(x[i]), y[i]).backward()
                descent.step()
        return model.requires_grad_(False).eval()

    a, b = trained(1), trained(2)
    own = [float(cross_entropy(model(x), y, reduction="none").double().mean()) for model in (a, b)]
    assert max(own) < 0.2
    profile = mc.evaluate_path(a, mc.LinearPath.between(a, b), suite, 3)
    losses = profile.loss["cue"]
    # The same float32 outputs, averaged in float64.
    assert (losses[0], losses[-1]) == pytest.approx(tuple(own), rel=1e-6)
    assert torch.equal(mc.soup([a, b], weights=[0, 1])(x), b(x))
    barrier = mc.mechanism_map({"A": a, "B": b}, suite, ts=3).barrier[0][1]
    assert barrier == pytest.approx(max(0.0, losses[1] - sum(own) / 2), rel=1e-6, abs=1e-9)
    audit = mc.audit(a, b, suite, ts=3, alignment="none")
    assert audit.paths["before"].loss["cue"] == pytest.approx(losses, rel=1e-6)
    with pytest.raises(ValueError, match="the path holds parameters alone, and the model also has the state"):
        mc.evaluate_path(a, mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), suite, 3)


def test_state_that_both_share_is_that_of_every_point() -> None:
    a, b = ends("mask")
    b.get_buffer("mask").copy_(a.get_buffer("mask"))
    path, x = mc.LinearPath.between(a, b), rows(24)[0]
    here = mc.model_at(
        build(Masked, 9).requires_grad_(False), path, 0.5
    )  # whatever the model that gives the architecture holds
    assert torch.equal(here.get_buffer("mask"), a.get_buffer("mask"))
    hidden = torch.tanh(x @ here.get_parameter("first.weight").T + here.get_parameter("first.bias"))
    expected = (hidden * a.get_buffer("mask")) @ here.get_parameter("head.weight").T + here.get_parameter("head.bias")
    torch.testing.assert_close(here(x), expected, rtol=1e-12, atol=1e-12)
    mean = (a.get_parameter("head.weight") + b.get_parameter("head.weight")) / 2
    torch.testing.assert_close(here.get_parameter("head.weight"), mean, rtol=1e-12, atol=1e-12)
    assert mc.evaluate_path(a, path, SUITE, 3).loss["cue"][1] == pytest.approx(
        float(cross_entropy(here(x), rows(24)[1])), rel=1e-12
    )


def test_a_soup_of_two_reads_both_statistics() -> None:
    a, b = used(norm_mlp, 1), used(norm_mlp, 2)
    found = mc.soup([a, b], weights=[1, 3], norm=mc.InterpolateNorm())
    check_same(found, mc.model_at(a, mc.LinearPath.between(a, b), 0.75, norm=mc.InterpolateNorm()))
    for name in ("1.running_mean", "1.running_var"):
        mixed = 0.25 * a.get_buffer(name) + 0.75 * b.get_buffer(name)
        torch.testing.assert_close(found.get_buffer(name), mixed, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="the policy needs the two ends of a path, and this point lies on none"):
        mc.soup([a, b, a], norm=mc.InterpolateNorm())


@pytest.mark.usefixtures("unchecked")
def test_a_soup_needs_a_network_to_be_of() -> None:
    points = [mc.point_of(used(mlp, seed)) for seed in (1, 2)]
    with pytest.raises(TypeError, match=r"^models\[0\] must be a Module, got Point: the first gives the architecture"):
        mc.soup(points)


@pytest.mark.parametrize("name", ["spectral norm", "spectral norm, by a hook", "mask"])
def test_planes_and_blocks_meet_the_networks(name: str) -> None:
    three = [used(FACTORIES[name], seed) for seed in (1, 2, 3)]
    for model in three[1:] if name == "mask" else []:
        model.get_buffer("mask").copy_(three[0].get_buffer("mask"))
    own = [mc.measure_invariance(model, SUITE) for model in three]
    plane = mc.evaluate_plane(three[0], *three, suite=SUITE, points=2)
    for point, measured in zip(plane.models.values(), own, strict=True):
        assert (point.loss, point.accuracy) == (measured.loss, measured.accuracy)
    a, b, _ = three
    cases: list[Any] = [("a", 0, own[0]), ("b", -1, own[1])]
    for rest, place, measured in cases:
        for profile in mc.evaluate_blocks(a, a, b, SUITE, rest=rest, ts=3).values():
            assert profile.loss["cue"][place] == measured.loss["cue"]
    whole = mc.evaluate_blocks(a, a, b, SUITE, {"all": ""}, ts=3)["all"]
    line = mc.evaluate_path(a, mc.LinearPath.between(a, b), SUITE, 3)
    for split, values in line.loss.items():
        # At t = 1 power iteration is renewed, since no block's end is a network that was saved.
        assert whole.loss[split] == pytest.approx(values, rel=1e-2 if "spectral" in name else 1e-12)
        assert whole.loss[split][:2] == pytest.approx(values[:2], rel=1e-12)


def test_repair_measures_the_networks_at_the_ends() -> None:
    a, b = used(Masked, 1), used(Masked, 2)
    b.get_buffer("mask").copy_(a.get_buffer("mask"))
    x, y = rows(60, 5)
    path, norm = mc.LinearPath.between(a, b), mc.Repair((x, y))
    check_same(mc.model_at(a, path, 0.0, norm=norm), a)
    check_same(mc.model_at(a, path, 1.0, norm=norm), b)
    here = mc.model_at(a, path, 0.25, norm=norm)
    units = [model.get_submodule("first")(x) for model in (a, b, here)]
    for measure in (lambda outputs: outputs.mean(0), lambda outputs: outputs.std(0, correction=0)):
        of_a, of_b, found = map(measure, units)
        torch.testing.assert_close(found, 0.75 * of_a + 0.25 * of_b, rtol=1e-9, atol=1e-9)


def holding(a: nn.Module, b: nn.Module) -> dict[str, Callable[..., Any]]:
    """Everything that holds two modules, to be called with `ignore` or without."""
    data = rows(24)
    bend = mc.BezierFit(epochs=1, batch_size=8)
    symmetry = mc.Symmetry.from_axes(
        a, {"first.weight": ["h", FEATURES], "first.bias": ["h"], "head.weight": [CLASSES, "h"]}, example_input=data[0]
    )

    def aligned(**more: Any) -> Any:
        return mc.evaluate_alignment(a, b, mc.WeightMatching(restarts=1), SUITE, 3, symmetry=symmetry, **more)

    return {
        "LinearPath": lambda **more: mc.model_at(a, mc.LinearPath.between(a, b, **more), 0.5),
        "PolygonalPath": lambda **more: mc.model_at(a, mc.PolygonalPath.between(a, b, **more), 0.5),
        "BezierPath": lambda **more: mc.model_at(a, mc.BezierPath.between(a, b, **more), 0.5),
        "soup": lambda **more: mc.soup([a, b], **more),
        "mechanism_map": lambda **more: mc.mechanism_map({"a": a, "b": b}, SUITE, ts=3, **more),
        "evaluate_alignment": aligned,
        "audit": lambda **more: mc.audit(a, b, SUITE, ts=3, alignment="none", **more),
        "fit_path": lambda **more: mc.fit_path(a.requires_grad_(), a, b, bend, data, **more),
        "evaluate_blocks": lambda **more: mc.evaluate_blocks(a, a, b, SUITE, ts=3, **more),
        "evaluate_plane": lambda **more: mc.evaluate_plane(a, a, b, build(Counted, 3), SUITE, 3, **more),
    }


TAKE_TWO = (
    "LinearPath", "PolygonalPath", "BezierPath", "soup", "mechanism_map", "evaluate_alignment", "audit", "fit_path",
    "evaluate_blocks", "evaluate_plane",
)  # fmt: skip
NOT_ONE = " are not one module with different parameters and statistics"


@pytest.mark.parametrize("name", TAKE_TWO)
def test_state_that_differs_is_refused_by_its_name_in_the_same_words(name: str) -> None:
    a, b = used(Counted, 1), used(Counted, 2)
    said = f"steps: {int(a.get_buffer('steps'))} and {int(b.get_buffer('steps'))}; ignore=('steps',) leaves it out"
    run = holding(a, b)[name]
    if name == "audit":  # the mechanisms are compared all the same
        found = run()
        assert dict(found.paths) == {} and len(found.notes) == 1
        assert NOT_ONE in found.notes[0] and said in found.notes[0]
    else:
        with pytest.raises(ValueError) as caught:
            run()
        assert NOT_ONE in str(caught.value) and str(caught.value).endswith(said)
    left = run(ignore=("steps",))
    assert name != "audit" or (list(left.paths) == ["before"] and left.notes == ())


@pytest.mark.parametrize("kind", ["networks", "points", "parameters"])
def test_a_name_to_ignore_that_nothing_has_is_refused(kind: str) -> None:
    as_given: Any = {"networks": lambda model: model, "points": mc.point_of, "parameters": mc.parameters_of}[kind]
    a, b = map(as_given, (used(Counted, 1), used(Counted, 2)))
    near = "" if kind == "parameters" else "; near names: steps"
    for between in (mc.LinearPath.between, mc.PolygonalPath.between):
        with pytest.raises(ValueError) as caught:
            between(a, b, ignore=("step",))
        said = f"ignore: 'step' is no buffer and no attribute of a layer of the models{near}"
        assert str(caught.value) == said
        with pytest.raises(TypeError, match=r"ignore must be a tuple or a list, got 'first\.steps'"):
            between(a, b, ignore="first.steps")


def test_what_is_ignored_is_as_in_a() -> None:
    a, b = used(Counted, 1), used(Counted, 2)
    path = mc.LinearPath.between(a, b, ignore=["steps"])
    for t in (0.0, 0.5, 1.0):
        assert torch.equal(mc.model_at(b, path, t).get_buffer("steps"), a.get_buffer("steps"))
    assert torch.equal(mc.soup([a, b], ignore=("steps",)).get_buffer("steps"), a.get_buffer("steps"))
    first, last = path.ends
    fit = mc.fit_path(build(Counted), first, last, mc.BezierFit(epochs=1, batch_size=8), rows(24))
    assert fit.path.ends == (first, last)
    assert mc.evaluate_blocks(a, first, last, SUITE, ts=3)["head"].loss["cue"]
    expected = mc.evaluate_path(a, path, SUITE, 3)
    for found in (
        mc.audit(a, b, SUITE, ts=3, alignment="none", ignore=("steps",)).paths["before"],
        holding(a, b)["evaluate_alignment"](ignore=("steps",))["before"],
    ):
        assert found.loss == {split: pytest.approx(values, rel=1e-12) for split, values in expected.loss.items()}
    third = used(Counted, 3)
    found = mc.mechanism_map({"a": a, "b": b, "c": third}, SUITE, ts=3, ignore=("steps",))
    other = mc.evaluate_path(a, mc.LinearPath.between(b, third, ignore=("steps",)), SUITE, 3)
    assert found.barrier[0][1] == pytest.approx(expected.barrier("cue").height, abs=1e-12)
    assert found.barrier[1][2] == pytest.approx(other.barrier("cue").height, abs=1e-12)


@pytest.mark.parametrize("name", DIFFERING)
def test_points_that_differ_are_refused_between_the_ends_and_the_advice_works(name: str) -> None:
    a, b = ends(name)
    path, (buffer,) = between(a, b), [key for key, _ in a.named_buffers()]
    first, last = path.ends
    runs: list[Callable[[], object]] = [
        lambda: mc.model_at(a, path, 0.5),
        lambda: mc.evaluate_path(a, path, SUITE, 3),
        lambda: mc.soup([a, mc.point_of(b)]),
        lambda: mc.fit_path(a, first, last, mc.BezierFit(epochs=1, batch_size=8), rows(24)),
        lambda: mc.evaluate_blocks(a, first, last, SUITE, ts=3),
        lambda: mc.evaluate_plane(a, first, last, mc.point_of(used(FACTORIES[name], 3)), SUITE, 3),
    ]
    for run in runs:
        with pytest.raises(ValueError) as caught:
            run()
        assert str(caught.value).startswith(f"the ends of the path differ in {buffer}, and no rule says what")
        assert f"ignore={(buffer,)!r}" in str(caught.value)
    shared = mc.LinearPath.between(a, b, ignore=(buffer,))
    assert torch.equal(mc.model_at(a, shared, 0.5).get_buffer(buffer), a.get_buffer(buffer))
    mc.evaluate_path(a, shared, SUITE, 3)
    mc.evaluate_blocks(a, *shared.ends, SUITE, ts=3)


def test_all_that_differs_is_named() -> None:
    class Both(Masked):
        def __init__(self) -> None:
            super().__init__()
            self.body = Tempered()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.body(x)

    a, b = used(Both, 1), used(Both, 2)
    with pytest.raises(ValueError, match=r"differ in mask, body.temperature, .* ignore=\('mask', 'temperature'\), or"):
        mc.model_at(a, between(a, b), 0.5)
    mc.model_at(a, mc.LinearPath.between(a, b, ignore=("mask", "temperature")), 0.5)


@pytest.mark.parametrize("name", [name for name in FACTORIES if name != "BatchNorm"])
def test_parameters_alone_do_not_say_what_a_network_with_state_is(name: str) -> None:
    a, b = ends(name)
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    for run in (
        lambda: mc.model_at(a, path, 1.0),
        lambda: mc.model_at(a, path, 0.5),
        lambda: mc.model_at(a, path.sub(0.0, 0.5), 0.5),
        lambda: mc.evaluate_path(a, path, SUITE, 3),
        lambda: mc.evaluate_blocks(a, path.at(0), path.at(1), SUITE, ts=3),
        lambda: mc.fit_path(a, path.at(0), path.at(1), mc.BezierFit(epochs=1, batch_size=8), rows(24)),
        lambda: mc.evaluate_plane(a, *(mc.parameters_of(used(FACTORIES[name], s)) for s in (1, 2, 3)), suite=SUITE),
    ):
        with pytest.raises(ValueError) as caught:
            run()
        assert str(caught.value).startswith("the path holds parameters alone, and the model also has the state ")
        assert str(caught.value).endswith("pass the networks, LinearPath.between(a, b)")
    if name not in DIFFERING:
        mc.evaluate_path(a, mc.LinearPath.between(a, b), SUITE, 3)


def test_parameters_alone_are_enough_without_other_state() -> None:
    a, b = used(mlp, 1), used(mlp, 2)
    alone, points = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), mc.LinearPath.between(a, b)
    mixed = mc.LinearPath.between(mc.parameters_of(a), mc.point_of(b))
    losses = [mc.evaluate_path(a, path, SUITE, 5).loss for path in (alone, points, mixed)]
    assert losses[0] == losses[1] == losses[2]
    a, b = used(norm_mlp, 1), used(norm_mlp, 2)
    norm = mc.Reestimate(rows(40, 3))
    alone, points = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), mc.LinearPath.between(a, b)
    assert mc.evaluate_path(a, alone, SUITE, 5, norm=norm).loss == mc.evaluate_path(a, points, SUITE, 5, norm=norm).loss
    with pytest.raises(ValueError, match=r"^A and B: one has buffers \(1.running_mean, 1.running_var, 1.num_b") as said:
        mc.LinearPath.between(a, mc.parameters_of(b))
    assert str(said.value).endswith("pass both networks, or mechconn.point_of(network) of both")
    mc.LinearPath.between(a, mc.point_of(b))


@pytest.mark.usefixtures("unchecked")
def test_a_path_has_points_at_its_ends_and_nothing_else() -> None:
    a: Any = used(mlp, 1)
    with pytest.raises(TypeError, match=r"^B must be a network, a point of one \(mechconn.point_of\), or its param"):
        mc.LinearPath.between(a, 3)  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- a policy of the user's


class FromB(NormPolicy):
    """The statistics of B everywhere but at A."""

    def renew(self, network: Any, path: Any, t: float, point: mc.Point) -> mc.Point:
        return point if path.place(t) == 0.0 else mc.Point(point.params, dict(path.ends[1].buffers))

    def describe(self) -> dict[str, Any]:
        return {"policy": "from B"}


def test_a_policy_of_ones_own_sees_the_path() -> None:
    a, b = used(norm_mlp, 1), used(norm_mlp, 2)
    path, (x, y) = mc.LinearPath.between(a, b), rows(24)
    profile = mc.evaluate_path(a, path, SUITE, 3, norm=FromB())
    assert profile.settings["norm"] == {"policy": "from B"}
    for number, t in enumerate(profile.ts):
        here = mc.model_at(a, path, t, norm=FromB())
        for name, buffer in (a if t == 0.0 else b).named_buffers():
            assert torch.equal(here.get_buffer(name), buffer)
        assert all(torch.equal(here.get_parameter(name), tensor) for name, tensor in path.at(t).items())
        assert profile.loss["cue"][number] == pytest.approx(float(cross_entropy(here(x), y)), rel=1e-12)
    assert profile.shifted_ends(1e-12) == ()
    back = mc.evaluate_path(a, path.reversed(), SUITE, 3, norm=FromB())
    assert back.loss["cue"] == pytest.approx(tuple(reversed(profile.loss["cue"])), rel=1e-12)
