"""Transplants: what moves weights moves their changes, and a planted copy gets exactly what tuning made of the base."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from small_networks import Attending, of_all_kinds
from symmetry.hub_models import IDS, gpt2
from zoo import CLASSES, FEATURES, Recurrent, build, norm_mlp, rows

X, Y = rows(40)
IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def resnet() -> nn.Module:
    return mc.models.resnet18(num_classes=4)


def vgg() -> nn.Module:
    return mc.models.vgg13(num_classes=4)


NETS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "all kinds": (of_all_kinds, X),
    "attention": (Attending, X),
    "LSTM": (Recurrent, X),
    "BatchNorm": (norm_mlp, X),
    "GPT-2": (gpt2, IDS),
    "VGG": (vgg, IMAGES),
    "ResNet": (resnet, IMAGES),
}
EACH = [pytest.param(n, marks=pytest.mark.slow) if n in ("VGG", "ResNet", "GPT-2") else n for n in NETS]


def make(name: str) -> tuple[nn.Module, nn.Module, Any]:
    """A base, what tuning made of it, and inputs; large networks in float32."""
    factory, example = NETS[name]
    wide = torch.float32 if name in ("VGG", "ResNet") else torch.float64
    base, tuned = build(factory, 1, wide).eval(), build(factory, 1, wide).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in tuned.parameters():
            spread = 0.05 * parameter.abs().mean().clamp(min=1e-3)
            parameter.add_(spread * torch.randn(parameter.shape, generator=draw).to(parameter))
    return base, tuned, example


def moved_by(symmetry: mc.Symmetry, model: nn.Module, element: Any) -> nn.Module:
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), element))
    return moved


def run(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        found = model.eval()(**inputs) if isinstance(inputs, dict) else model.eval()(inputs)
    return found if isinstance(found, Tensor) else found.logits


def keep_norm(model: nn.Module) -> mc.NormPolicy | None:
    return mc.KeepNorm() if any("running" in name for name, _ in model.named_buffers()) else None


@pytest.mark.parametrize("name", ["all kinds", "attention", "LSTM", "BatchNorm"])
@pytest.mark.parametrize("kind", ["permutation", "sign", "scale", "linear", "orthogonal"])
def test_what_moves_weights_moves_their_changes(name: str, kind: Any) -> None:
    """g(theta + tau) - g(theta) = g(tau), for a random element of each kind by itself."""
    base, tuned, example = make(name)
    symmetry = mc.symmetry_of(base, example)
    element, change = symmetry.random(2, kinds=(kind,)), mc.weight_change(base, tuned)
    gap = mc.weight_change(moved_by(symmetry, base, element), moved_by(symmetry, tuned, element))
    moved = symmetry.apply(change.tensors, element)
    for parameter, tensor in gap.tensors.items():
        torch.testing.assert_close(moved[parameter], tensor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EACH)
def test_a_planted_copy_gets_exactly_what_tuning_made_of_the_base(name: str) -> None:
    """The other network is the base with its units permuted: it becomes the permuted tuned one, bit for bit.

    Statistics are the other network's own, so that outputs are those of the tuned weights with the base's statistics.
    """
    base, tuned, example = make(name)
    symmetry = mc.symmetry_of(base, example)
    element = symmetry.random(5, kinds=("permutation",))
    onto = moved_by(symmetry, base, element)
    change = mc.weight_change(base, tuned)
    found = mc.transplant(change, base, onto, mc.WeightMatching(), symmetry, norm=keep_norm(base))
    wanted = mc.parameters_of(moved_by(symmetry, tuned, element))
    mixed = {unit for action in symmetry.actions if action.mixes for unit in action.units}
    for parameter, tensor in mc.parameters_of(found.model).items():
        if mixed:  # rotations are found to rounding
            torch.testing.assert_close(tensor, wanted[parameter], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(tensor, wanted[parameter])
    expected = run(mc.with_change(base, change), example)
    torch.testing.assert_close(run(found.model, example), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert (found.distance_after < 1e-4 < found.distance_before and found.unmatched == 0.0) or name == "GPT-2"


@pytest.mark.parametrize("name", ["all kinds", "attention", "LSTM", "BatchNorm"])
def test_signs_scales_and_maps_are_moved_along(name: str) -> None:
    """To rounding: the change of a copy with other signs, scales and rotations is another one, of another norm."""
    base, tuned, example = make(name)
    symmetry = mc.symmetry_of(base, example)
    onto = moved_by(symmetry, base, symmetry.random(5))
    change = mc.weight_change(base, tuned)
    found = mc.transplant(change, base, onto, mc.WeightMatching(), symmetry, norm=keep_norm(base))
    torch.testing.assert_close(
        run(found.model, example), run(mc.with_change(base, change), example), rtol=1e-6, atol=1e-8
    )
    assert found.cosine is not None and found.cosine < 0.9
    assert (abs(found.moved_size / found.size - 1) > 1e-3) == (name in ("all kinds", "attention"))


def test_without_matching_the_change_is_added_as_it_is() -> None:
    base, tuned, _ = make("all kinds")
    onto = build(of_all_kinds, 7)
    change = mc.weight_change(base, tuned)
    found = mc.transplant(change, base, onto, None, scale=0.5)
    expected = mc.parameters_of(mc.with_change(onto, change, 0.5))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in mc.parameters_of(found.model).items())
    assert found.cosine == pytest.approx(1.0) and found.distance_before == found.distance_after
    assert "As it is" in found.headline and found.alignment is None
    assert found.coverage is None and found.unmatched is None
    assert found.added_size == pytest.approx(0.5 * change.norm) and f"norm {found.added_size:.4g}" in found.headline


def test_an_alignment_and_many_networks_that_were_aligned_before(tmp_path: Path) -> None:
    base, tuned, example = make("all kinds")
    symmetry = mc.symmetry_of(base, example)
    onto, third = moved_by(symmetry, base, symmetry.random(5)), build(of_all_kinds, 8)
    change = mc.weight_change(base, tuned)
    first = mc.transplant(change, base, onto, mc.WeightMatching(), symmetry)
    before = mc.align(onto, base, mc.WeightMatching(), symmetry)
    again = mc.transplant(change, base, onto, before)
    assert torch.equal(run(first.model, example), run(again.model, example))
    before.save(tmp_path / "alignment.json")
    read = mc.transplant(change, base, onto, mc.load_result(tmp_path / "alignment.json"))  # pyright: ignore
    assert torch.equal(run(first.model, example), run(read.model, example))
    many = mc.align_many({"a": base, "b": onto, "c": third}, mc.UniverseMatching(), symmetry)
    through = mc.transplant(change, base, onto, many)
    torch.testing.assert_close(run(through.model, example), run(tuned, example), rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="other weights than onto and base; pass what align"):
        mc.transplant(change, base, third, before)
    with pytest.raises(ValueError, match="holds no network of the weights of onto, but a, b, c of others"):
        mc.transplant(change, base, build(of_all_kinds, 9), many)


def test_statistics_stay_or_are_reestimated_and_must_be_chosen() -> None:
    base, tuned, example = make("BatchNorm")
    onto, change = build(norm_mlp, 4), mc.weight_change(base, tuned)
    symmetry = mc.symmetry_of(base, example)
    with pytest.raises(ValueError, match=r"keeps normalisation statistics .*pass norm=Reestimate"):
        mc.transplant(change, base, onto, mc.WeightMatching(), symmetry)
    kept = mc.transplant(change, base, onto, mc.WeightMatching(), symmetry, norm=mc.KeepNorm())
    own = dict(onto.named_buffers())
    assert all(torch.equal(buffer, own[name]) for name, buffer in kept.model.named_buffers())
    new = mc.transplant(
        change, base, onto, mc.WeightMatching(), symmetry, norm=mc.Reestimate((X, Y), label="forty rows")
    )
    mean = new.model.get_buffer("1.running_mean")
    torch.testing.assert_close(mean, new.model.get_submodule("0")(X).mean(0).detach())
    assert new.statistics["policy"] == "reestimate" and kept.statistics == {"policy": "keep"}


class Frozen(nn.Module):
    """The first hidden layer is read position by position, so that its units keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(FEATURES, 5), nn.Linear(5, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) * torch.arange(1, 6).to(x)
        return self.out(torch.relu(self.second(torch.cumsum(h, 1))))


def test_the_share_of_the_change_in_units_that_could_not_be_matched() -> None:
    base, onto = build(Frozen, 1), build(Frozen, 2)
    symmetry = mc.symmetry_of(base, X)
    assert symmetry.coverage < 1
    tensors = {name: torch.zeros_like(p) for name, p in mc.parameters_of(base).items()}
    tensors["first.bias"] += 3.0 / 5**0.5
    tensors["out.bias"] += 4.0 / CLASSES**0.5
    found = mc.transplant(mc.WeightChange(tensors), base, onto, mc.WeightMatching(), symmetry)
    assert found.size == pytest.approx(5.0) and found.unmatched == pytest.approx(9 / 25)
    assert "36.0 % of the change's squared norm lies in such tensors" in found.notes[0]


def test_units_that_were_not_compared_count_as_unmatched() -> None:
    """A method of the user's that compares nothing says so: what the change has along these units is unmatched."""

    class Blind(mc.alignment.AlignmentMethod):
        def match(self, pair: mc.alignment.NetworkPair) -> mc.alignment.Matching:
            return mc.alignment.Matching({}, unseen=("layer0",))

        def describe(self) -> dict[str, Any]:
            return {"method": "blind"}

    def small() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 5), nn.GELU(), nn.Linear(5, CLASSES))

    base, onto = build(small, 1), build(small, 2)
    tensors = {name: torch.ones_like(p) for name, p in mc.parameters_of(base).items()}
    found = mc.transplant(mc.WeightChange(tensors), base, onto, Blind(), mc.symmetry_of(base, X))
    total = sum(tensor.numel() for tensor in tensors.values())
    assert found.unmatched == pytest.approx(1 - CLASSES / total)
    many = mc.align_many({"a": base, "b": onto}, Blind(), mc.symmetry_of(base, X), onto="b")
    through = mc.transplant(mc.WeightChange(tensors), base, onto, many)
    assert many.unseen == ("layer0",) and through.unmatched == pytest.approx(1 - CLASSES / total)


def test_a_unit_saved_at_another_scale_is_noted() -> None:
    """One unit of the base at 1e-6 of its scale: a change of norm 0.4 becomes one of 125, and the headline says so."""

    def small() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))

    base, onto = build(small, 0), build(small, 2)
    with torch.no_grad():
        base.get_parameter("0.weight")[0] *= 1e-6
        base.get_parameter("0.bias")[0] *= 1e-6
    tensors = {name: 0.1 * torch.ones_like(p) for name, p in mc.parameters_of(base).items()}
    symmetry = mc.symmetry_of(base, X)
    found = mc.transplant(mc.WeightChange(tensors), base, onto, mc.WeightMatching(), symmetry)
    assert found.moved_size > 10 * found.size and f"norm {found.moved_size:.4g} ({found.size:.4g} as given)" in str(
        found
    )
    assert "factor of 2 in 0.weight" in " ".join(found.notes)
    plain = mc.transplant(mc.WeightChange(tensors), build(small, 1), onto, mc.WeightMatching(), symmetry)
    assert ("factor of 2" in " ".join(plain.notes)) == any(
        not 0.5 <= plain.norms[name] / size <= 2 for name, size in plain.given.norms.items()
    )


def test_a_change_of_zero_has_no_direction_and_another_one_is_noted() -> None:
    base, tuned, example = make("all kinds")
    onto, symmetry, change = build(of_all_kinds, 7), mc.symmetry_of(base, example), mc.weight_change(base, tuned)
    zero = mc.transplant(0.0 * change, base, onto, mc.WeightMatching(), symmetry)
    assert zero.cosine is None and "undefined, as the change is zero" in str(zero) and "nan" not in str(zero)
    along = mc.GradientMatching((X, Y), change, points=2)
    other = mc.transplant(-1.0 * change, base, onto, along, symmetry)
    assert "along another change" in " ".join(other.notes)
    assert "along another change" not in " ".join(mc.transplant(change, base, onto, along, symmetry).notes)


def test_networks_without_hidden_units_say_so() -> None:
    base, onto = (build(lambda: nn.Linear(FEATURES, 2), seed) for seed in (1, 2))
    change = mc.weight_change(base, onto)
    found = mc.transplant(change, base, onto, mc.WeightMatching(), mc.symmetry_of(base, X))
    assert found.notes[0] == "the network has no hidden units that may be moved: the change is added as it is"
    assert "of the hidden axes" not in " ".join(found.notes)


def test_notes_on_lines_stay_with_the_alignment() -> None:
    base, tuned, example = make("LSTM")
    symmetry = mc.symmetry_of(base, example)
    onto = moved_by(symmetry, base, symmetry.random(5, kinds=("sign",)))
    found = mc.transplant(mc.weight_change(base, tuned), base, onto, mc.WeightMatching(), symmetry)
    assert found.alignment is not None and "barrier" in " ".join(found.alignment.notes)
    assert "barrier" not in " ".join(found.notes)


def test_what_is_made_in_inference_mode_can_be_trained_on() -> None:
    base, tuned, _ = make("all kinds")
    change = mc.weight_change(base, tuned)
    with torch.inference_mode():
        found = mc.transplant(change, base, build(of_all_kinds, 7), None)
    found.model(X).sum().backward()
    assert all(parameter.grad is not None for parameter in found.model.parameters())


def test_nothing_of_the_users_is_changed_and_seeds_decide() -> None:
    base, tuned, example = make("all kinds")
    onto = build(of_all_kinds, 7).train()
    before = {name: tensor.clone() for name, tensor in onto.state_dict().items()}
    with isolate_rng(0, "test"):
        state = torch.get_rng_state()
        change = mc.weight_change(base, tuned)
        first, again = (
            mc.transplant(
                change, base, onto, mc.GradientMatching((X, Y), change, points=2), mc.symmetry_of(base, example)
            )
            for _ in range(2)
        )
        assert torch.equal(state, torch.get_rng_state())
    assert onto.training and all(torch.equal(tensor, before[name]) for name, tensor in onto.state_dict().items())
    assert torch.equal(run(first.model, example), run(again.model, example))


def test_a_result_from_a_file_says_what_it_lacks(tmp_path: Path) -> None:
    base, tuned, example = make("all kinds")
    change = mc.weight_change(base, tuned)
    found = mc.transplant(change, base, build(of_all_kinds, 7), mc.WeightMatching(), mc.symmetry_of(base, example))
    found.save(tmp_path / "found.json")
    loaded = mc.load_result(tmp_path / "found.json")
    assert isinstance(loaded, mc.Transplant) and loaded.headline == found.headline
    with pytest.raises(AttributeError, match=r"files hold no model; transplant it again"):
        _ = loaded.model
    assert sum(row["share"] for row in found.rows()) == pytest.approx(1.0)


def test_one_line_says_what_is_wrong() -> None:
    base, tuned, example = make("all kinds")
    onto, change, symmetry = build(of_all_kinds, 7), mc.weight_change(base, tuned), mc.symmetry_of(base, example)
    other = build(lambda: nn.Linear(FEATURES, 2), 1)
    with pytest.raises(TypeError, match=r"change must be .*pass weight_change\(base, tuned\)"):
        mc.transplant(tuned, base, onto, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="the parameters of base and of the change"):
        mc.transplant(mc.weight_change(other, other), base, onto, None)
    with pytest.raises(ValueError, match="onto and base"):
        mc.transplant(change, base, other, None)
    with pytest.raises(TypeError, match=r"matching must be .*pass WeightMatching\(\)"):
        mc.transplant(change, base, onto, "weights", symmetry)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"needs to know what may be permuted, .*symmetry=symmetry_of"):
        mc.transplant(change, base, onto, mc.WeightMatching())
    with pytest.raises(ValueError, match="scale must be a finite number"):
        mc.transplant(change, base, onto, mc.WeightMatching(), scale=float("nan"))
    with pytest.raises(ValueError, match=r"symmetry is for an alignment method, .*leave it out"):
        mc.transplant(change, base, onto, None, symmetry)
    with pytest.raises(ValueError, match="onto and base"):
        mc.transplant(change, base, build(lambda: nn.Linear(2, 2), 1), mc.WeightMatching(), symmetry)
    broken = copy.deepcopy(onto)
    with torch.no_grad():
        next(broken.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(ValueError, match=r"onto holds NaN or infinity in 0\.weight; take an earlier checkpoint"):
        mc.transplant(change, base, broken, None)
    with pytest.raises(ValueError, match=r"overflows float64 at scale 1e\+308; take a smaller scale"):
        mc.transplant(1e6 * change, base, onto, None, scale=1e308)
