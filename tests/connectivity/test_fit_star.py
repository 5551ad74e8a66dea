"""Fitted stars: against closed forms and SGD by hand, what they draw, and what they take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import nn

import mechconn as mc
from connectivity.star_nets import DATA, SUITE, fit, linear, permuted, solve_star, squared, trained
from mechconn.connectivity._star_fit import draw_place, draw_source
from mechconn.connectivity._star_networks import hash_weights
from stopping import Counting, StoppedError
from texts import LENGTH, Transformer
from zoo import Shared, Tied, build, dropout_mlp, images, mlp, norm_conv, norm_mlp, rows, split

NORM = mc.Reestimate(DATA)


# ---------------------------------------------------------------- closed forms


TARGET = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
SOURCES = [TARGET + torch.tensor([shift], dtype=torch.float64) for shift in ([1.0, 0, 2], [0, -1.5, 1], [0.5, 0, 0])]


@pytest.mark.parametrize(
    ("law", "own_loss"),
    [
        ("uniform", 0.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("beta", 0.0), ("half", 0.0), ("uniform", 0.5))),
    ],
)
def test_a_star_of_quadratics_lies_where_its_closed_form_says(law: Any, own_loss: float) -> None:
    """Orthonormal inputs, so that the loss is |theta - target|^2 / 3; steps that fall to zero leave little noise."""
    eye = torch.eye(3, dtype=torch.float64)
    data = (eye.repeat(100, 1), (eye @ TARGET.T).repeat(100, 1))
    method = mc.StarFit(
        epochs=15, batch_size=3, lr=0.2, momentum=0.0, weight_decay=0.0, t=law, realign=False, own_loss=own_loss
    )
    star = mc.fit_star(linear(torch.zeros(1, 3)), list(map(linear, SOURCES)), method, data, loss=squared)
    expected = solve_star(law, TARGET, SOURCES, own_loss)
    # 1,500 draws of t and n, of which the last steps still have some noise.
    torch.testing.assert_close(star.model.get_parameter("weight").detach(), expected, atol=0.12, rtol=0)
    assert (expected - torch.stack(SOURCES).mean(0)).abs().max() > 0.3


@pytest.mark.parametrize("law", ["uniform", "beta"])
def test_t_follows_its_law(law: Any) -> None:
    drawn = [draw_place(law, step, 3) for step in range(3000)]
    assert kstest(drawn, "uniform" if law == "uniform" else "beta", () if law == "uniform" else (2, 2)).pvalue > 0.01
    assert {draw_place("half", step, 3) for step in range(9)} == {0.5}


def test_sources_are_drawn_alike_and_apart_from_t() -> None:
    drawn = torch.tensor([draw_source(4, step, 3) for step in range(4000)])
    assert drawn.bincount().tolist() == pytest.approx([1000] * 4, abs=100)
    places = torch.tensor([draw_place("uniform", step, 3) for step in range(4000)])
    assert all(float(places[drawn == number].mean()) == pytest.approx(0.5, abs=0.04) for number in range(4))


@pytest.mark.parametrize("factory", [mlp, norm_mlp, Shared, Tied])
def test_a_step_is_sgd_by_hand(factory: Any) -> None:
    """The gradient at the point between, times (1 - t): once, as autograd has it, and not twice."""
    batches, method = split(rows(25), [9, 9, 7]), fit(realign=False, own_loss=0.25, momentum=0.8, weight_decay=0.01)
    sources = [build(factory, seed) for seed in (1, 2, 3)]
    star = mc.fit_star(build(factory), sources, method, batches, norm=NORM, seed=5)
    ordered = sorted(sources, key=hash_weights)
    theta = build(factory).train()
    velocity = {name: torch.zeros_like(p) for name, p in theta.named_parameters()}
    step = 0
    for _ in range(method.epochs):
        for x, y in batches:
            t, other = draw_place("uniform", step, 5), ordered[draw_source(3, step, 5)]
            there = build(factory).train()
            with torch.no_grad():
                for name, p in there.named_parameters():
                    p.copy_((1 - t) * theta.get_parameter(name) + t * other.get_parameter(name))
            nn.functional.cross_entropy(there(x), y).backward()
            own = build(factory).train()
            own.load_state_dict(theta.state_dict())
            nn.functional.cross_entropy(own(x), y).backward()
            rate = method.rate(step, 9, 0)
            with torch.no_grad():
                for name, p in theta.named_parameters():
                    line, alone = there.get_parameter(name).grad, own.get_parameter(name).grad
                    assert line is not None and alone is not None
                    gradient = ((1 - t) * line + 0.25 * alone) / 1.25 + 0.01 * p
                    velocity[name] = 0.8 * velocity[name] + gradient
                    p -= rate * velocity[name]
            step += 1
    for name, p in theta.named_parameters():  # some dozen steps of float64, in another order than torch's
        torch.testing.assert_close(star.model.get_parameter(name), p, rtol=1e-9, atol=1e-9)


def test_sources_are_realigned_each_epoch() -> None:
    """SGD by hand on sources that `align` moves onto the star when each epoch begins."""
    batches, method = split(rows(25), [9, 9, 7]), fit(epochs=4, lr=0.5, momentum=0.0, weight_decay=0.0)
    sources = [build(mlp, seed) for seed in (1, 2, 3)]
    star = mc.fit_star(build(mlp), sources, method, batches, seed=5)
    assert star.symmetry is not None
    ordered, theta, step, matchings = sorted(sources, key=hash_weights), build(mlp), 0, []
    for _ in range(method.epochs):
        found = [mc.align(theta, source, mc.WeightMatching(), star.symmetry, seed=5) for source in ordered]
        matchings.append([{name: part.tolist() for name, part in each.element.items()} for each in found])
        for x, y in batches:
            t, other = draw_place("uniform", step, 5), found[draw_source(3, step, 5)].model
            there = build(mlp)
            with torch.no_grad():
                for name, p in there.named_parameters():
                    p.copy_((1 - t) * theta.get_parameter(name) + t * other.get_parameter(name))
            nn.functional.cross_entropy(there(x), y).backward()
            with torch.no_grad():
                for name, p in theta.named_parameters():
                    line = there.get_parameter(name).grad
                    assert line is not None
                    p -= method.rate(step, 12, 0) * (1 - t) * line
            step += 1
    assert any(later != matchings[0] for later in matchings[1:])  # else aligning once would do as well
    for name, p in theta.named_parameters():  # a dozen steps of float64, in another order than torch's
        torch.testing.assert_close(star.model.get_parameter(name), p, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_copies_of_one_network_are_one_source_where_they_are_realigned() -> None:
    """Started at the network, the star stays joined to every copy, seen or not; as they are, it is far from them."""
    model = trained(3)
    copies = permuted(model, 8)
    suite, found = mc.Suite({"rows": DATA}, reference="rows"), {}
    for realign in (True, False):
        star = mc.fit_star(model, copies[:5], fit(epochs=10, lr=0.02, weight_decay=0.0, realign=realign), DATA)
        found[realign] = star.barriers(copies[5:], suite, sources=copies[:5])
        assert max(found[realign].heights("rows", "pair").values()) < 1e-9  # three copies of one network
        assert (star.symmetry is not None) == realign
    assert max(found[True].heights("rows", "held-out").values()) < 1e-3
    assert max(found[True].heights("rows", "source").values()) < 1e-3
    one = fit_onto(model, realign=True)
    for copied in copies[1:]:  # the copies are one source, to the rounding of their sums
        other = fit_onto(model, copied, realign=True)
        for name, p in one.named_parameters():
            torch.testing.assert_close(p, other.get_parameter(name), rtol=1e-9, atol=1e-9)
    plain = fit_onto(model, copies[1], realign=False)
    assert not torch.allclose(plain.get_parameter("0.weight"), one.get_parameter("0.weight"), atol=1e-3)


def fit_onto(model: nn.Module, source: nn.Module | None = None, **how: Any) -> nn.Module:
    """A star from fresh weights of one source, the model itself unless another is given."""
    return mc.fit_star(build(mlp, 9), [model if source is None else source], fit(**how), DATA).model


# ---------------------------------------------------------------- what it takes


def check_same(a: nn.Module, b: nn.Module) -> None:
    mine, other = a.state_dict(), b.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in mine.items())


def test_the_order_of_the_sources_changes_nothing() -> None:
    sources = {name: build(mlp, seed) for seed, name in enumerate("abc", 1)}
    one = mc.fit_star(build(mlp), sources, fit(), DATA)
    other = mc.fit_star(build(mlp), list(sources.values())[::-1], fit(), DATA)
    check_same(one.model, other.model)
    assert list(one.sources) == ["a", "b", "c"] and list(other.sources) == ["source 0", "source 1", "source 2"]
    assert list(one.sources.values()) == list(other.sources.values())[::-1]


@pytest.mark.parametrize("realign", [True, False])
@pytest.mark.parametrize("stop", [5, 11])
def test_an_interrupted_fit_ends_bit_identical(tmp_path: Path, realign: bool, stop: int) -> None:
    """Also in the middle of an epoch, whose sources were moved onto a star that is gone."""
    sources, method, place = [build(dropout_mlp, s) for s in (1, 2)], fit(epochs=4, realign=realign), tmp_path / "s"
    place.mkdir()

    def run(**how: Any) -> Any:
        return mc.fit_star(build(dropout_mlp), sources, method, DATA, norm=NORM, **how)

    whole, kept = run(loss=Counting()), mc.Checkpoint(place / "run.safetensors", every=1)
    with pytest.raises(StoppedError):
        run(loss=Counting(stop), checkpoint=kept)
    again = run(loss=Counting(), checkpoint=kept)
    check_same(whole.model, again.model)
    assert whole.history == again.history
    with pytest.raises(ValueError, match="written by another run"):
        mc.fit_star(build(dropout_mlp), sources[:1], method, DATA, norm=NORM, loss=Counting(), checkpoint=kept)


def test_a_checkpoint_is_of_one_symmetry(tmp_path: Path) -> None:
    place, sources = mc.Checkpoint(tmp_path / "run.safetensors"), [build(mlp, 1)]
    star = mc.fit_star(build(mlp), sources, fit(), DATA, checkpoint=place)
    assert star.symmetry is not None
    assert star.settings["symmetry"]["groups"] == dict(star.symmetry.sizes)
    few = replace(star.symmetry, actions=())
    with pytest.raises(ValueError, match="written by another run"):
        mc.fit_star(build(mlp), sources, fit(), DATA, checkpoint=place, symmetry=few)
    check_same(star.model, mc.fit_star(build(mlp), sources, fit(), DATA, checkpoint=place).model)


def test_statistics_are_of_the_star() -> None:
    sources = [build(norm_mlp, seed) for seed in (1, 2)]
    star = mc.fit_star(build(norm_mlp), sources, fit(), DATA, norm=NORM)
    with torch.no_grad():
        seen = star.model.get_submodule("0")(DATA[0])
    torch.testing.assert_close(star.model.get_buffer("1.running_mean"), seen.mean(0))
    with pytest.raises(ValueError, match=r"without norm= .*pass norm=Reestimate\(training batches\)$"):
        mc.fit_star(build(norm_mlp), sources, fit(), DATA)
    for factory, use in ((norm_mlp, "norm=Reestimate"), (mlp, "nothing, since")):
        with pytest.raises(ValueError, match=rf"norm=Repair\(\) rescales points between networks.*pass {use}"):
            mc.fit_star(build(factory), [build(factory, 1)], fit(), DATA, norm=mc.Repair(DATA))
    with pytest.raises(ValueError, match="statistics of the fresh network"):
        mc.fit_star(build(norm_mlp), sources, fit(), DATA, norm=mc.KeepNorm())
    with pytest.raises(ValueError, match="reads no data"):
        mc.fit_star(build(norm_mlp), sources, fit(), DATA, norm=NORM, align=mc.ActivationMatching(DATA))


def test_units_may_be_matched_by_their_activations() -> None:
    star = mc.fit_star(build(mlp), [build(mlp, 1)], fit(), DATA, align=mc.ActivationMatching(DATA))
    assert star.settings["align"]["method"] == "activation matching"
    assert "align" not in mc.fit_star(build(mlp), [build(mlp, 1)], fit(realign=False), DATA).settings


def test_half_precision_has_float32_masters() -> None:
    data = rows(24, dtype=torch.float32)
    half = [build(mlp, seed, torch.bfloat16) for seed in range(3)]
    full = [build(mlp, seed, torch.bfloat16).float() for seed in range(3)]
    star = mc.fit_star(half[0], half[1:], fit(), (data[0].bfloat16(), data[1]))
    expected = mc.fit_star(full[0], full[1:], fit(), (data[0].bfloat16().float(), data[1]))
    assert star.settings["master_weights"] == "float32"
    # Matching reads both in float32, so that the descents are one, rounded once at the end.
    for name, p in star.model.named_parameters():
        assert p.dtype == torch.bfloat16
        torch.testing.assert_close(p, expected.model.get_parameter(name).bfloat16())


@pytest.mark.slow
def test_a_convnet_and_a_transformer() -> None:
    data = images(16)
    star = mc.fit_star(build(norm_conv), [build(norm_conv, s) for s in (1, 2)], fit(), data, norm=mc.Reestimate(data))
    assert star.model(data[0]).shape == (16, 3)
    draw = torch.Generator().manual_seed(0)
    tokens = {
        "input_ids": torch.randint(0, 9, (16, LENGTH), generator=draw),
        "attention_mask": torch.ones(16, LENGTH, dtype=torch.int64),
    }
    batches = [(tokens, torch.randint(0, 2, (16,), generator=draw))]
    make = [build(lambda: Transformer(8), s, torch.float32) for s in range(4)]
    found = mc.fit_star(make[0], make[1:3], fit(), batches)
    assert found.symmetry is not None and found.symmetry.sizes
    assert [record["epoch"] for record in found.history] == [0, 1, 2]


def test_frozen_weights_of_the_star_stay() -> None:
    fresh = build(mlp)
    fresh.get_parameter("0.weight").requires_grad_(False)
    star = mc.fit_star(fresh, [build(mlp, 1)], fit(), DATA)
    assert torch.equal(star.model.get_parameter("0.weight"), fresh.get_parameter("0.weight"))
    assert not torch.equal(star.model.get_parameter("2.weight"), fresh.get_parameter("2.weight"))


def test_settings_say_which_alternatives_were_taken() -> None:
    star = mc.fit_star(build(mlp), [build(mlp, 1)], fit(realign=False, t="half", own_loss=0.5), DATA)
    expected = {"method": "StarFit", "t": "half", "realign": False, "own_loss": 0.5, "sources": 1}
    assert expected.items() <= star.settings.items()
    assert {"line", "own"} <= star.history[0].keys()
    assert "StarFit: 3 epochs, 24 samples" in str(star)


# ---------------------------------------------------------------- what it refuses


def wider() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def broken() -> nn.Module:
    model = build(mlp, 1)
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0] = torch.nan
    return model


PLAIN = {"method": fit(realign=False)}
SYMMETRY = mc.symmetry_of(build(mlp), DATA[0][:2])


@pytest.mark.parametrize(
    ("sources", "how", "said"),
    [
        ([], {}, "needs one source or more, got none"),
        ([build(wider)], {}, "fresh and source 'source 0' are not one module"),
        ({"odd": broken()}, {}, "source 'odd' must have finite weights"),
        (build(mlp), {}, "sources must be networks"),
        ([build(mlp, 1)], {"method": mc.BezierFit()}, "method must be a StarFit"),
        ([build(mlp, 1)], {"align": mc.Mean()}, "align must be a AlignmentMethod"),
        ([build(mlp, 1), build(mlp, 2), build(mlp, 1)], {}, "'source 0' and 'source 2' are one network"),
        ({"a": build(mlp, 1), "b": build(mlp)}, {}, "fresh is the source 'b'"),
        ([build(mlp, 1)], {**PLAIN, "align": mc.ActivationMatching(DATA)}, "align= has no effect with StarFit(realign"),
        ([build(mlp, 1)], {**PLAIN, "symmetry": SYMMETRY}, "symmetry= has no effect with StarFit(realign=False)"),
        ({"star": build(mlp, 1)}, {}, "sources hold a network called 'star'"),
        (
            [build(mlp, 1)],
            {"data": SUITE},
            "star data must be an (x, y) pair, a dataset or batches, got a Suite",
        ),
        ([build(mlp, 1)], {"symmetry": "all"}, "symmetry must be a Symmetry"),
        ([build(mlp, 1)], {"data": (DATA[0][:0], DATA[1][:0])}, "star data"),
    ],
)
def test_wrong_input_is_one_clear_line(sources: Any, how: dict[str, Any], said: str) -> None:
    given = {"method": fit(), "data": DATA, **how}
    with pytest.raises((ValueError, TypeError)) as caught:
        mc.fit_star(build(mlp), sources, given.pop("method"), given.pop("data"), **given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"t": "normal"}, {"realign": "yes"}, {"own_loss": -1.0}, {"epochs": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        mc.StarFit(**wrong)


def test_a_diverging_fit_says_where() -> None:
    with pytest.raises(FloatingPointError, match="line is"):
        mc.fit_star(build(mlp), [build(mlp, 1)], fit(lr=1e200), DATA)


def test_a_symmetry_that_does_not_hold_is_refused() -> None:
    model = build(mlp, 1)
    symmetry = mc.symmetry_of(model, DATA[0][:2])
    wrong = symmetry.with_axes({"0.bias": [5]})
    with pytest.raises(ValueError, match="changes the model's outputs"):
        mc.fit_star(build(mlp), [model], fit(), DATA, symmetry=wrong)


def identity(x: Any) -> Any:
    return x


def test_a_network_without_units_is_told() -> None:
    flat = [build(lambda: nn.Linear(4, 3), seed) for seed in range(3)]
    assert "no units that may be moved" in mc.fit_star(flat[0], flat[1:], fit(), DATA, transform=identity).notes[0]
