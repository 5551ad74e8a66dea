"""The audit: its parts are those of the verbs it is made of, its sentences say what the numbers are, its page holds."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build


def data(seed: int = 0, count: int = 1500) -> tuple[Tensor, Tensor]:
    """Rows whose label is the largest of the first three columns."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=draw, dtype=torch.float64)
    return x, x[:, :CLASSES].argmax(1)


def suite() -> mc.Suite:
    """The last column says nothing; the first three are the cause."""
    x, y = data(1)
    other = data(2)[0]
    still, moved = x.clone(), x.clone()
    still[:, -1] = other[:, -1]
    moved[:, :-1] = other[:, :-1]
    return mc.Suite({"plain": (x, y), "last": (still, y), "causes": (moved, y)}, reference="plain")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def trained(seed: int) -> nn.Module:
    method = mc.Training(epochs=8, batch_size=100, lr=0.2, milestones=())
    return mc.train(build(net, seed), data(), method, seed=seed).model


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    return trained(1), trained(2)


@pytest.fixture(scope="module")
def found(pair: tuple[nn.Module, nn.Module]) -> mc.Audit:
    norm = mc.Reestimate(data(), label="training data")
    return mc.audit(*pair, suite(), norm=norm, ts=5, blocks=1, layers="all", names=("one", "two"))


def test_parts_are_those_of_the_verbs(pair: tuple[nn.Module, nn.Module], found: mc.Audit) -> None:
    a, b = pair
    norm = mc.Reestimate(data(), label="training data")
    assert found.comparison == replace(mc.compare_mechanisms(a, b, suite()), names=("one", "two"))
    assert found.verdict == "similar"
    assert found.discrepancy == mc.output_discrepancy(a, b, suite())
    own_a, own_b = mc.parameters_of(a), mc.parameters_of(b)
    line = mc.evaluate_path(a, mc.LinearPath(own_a, own_b), suite(), 5, norm=norm, keep_samples=True)
    assert found.paths["before"].loss == line.loss
    aligned = mc.align(a, b, mc.ActivationMatching(data(), label="training data"))
    assert found.alignment is not None and found.alignment.distance_after == aligned.distance_after
    after = mc.evaluate_path(a, mc.LinearPath(own_a, aligned.params), suite(), 5, norm=norm)
    # An audit takes B with its units permuted for B itself; its sums run in another order, and round in the last bit.
    assert {k: pytest.approx(v, rel=1e-12) for k, v in after.loss.items()} == found.paths["after"].loss
    assert found.paths["after"].barrier("plain").interval is not None
    blocks = mc.evaluate_blocks(a, own_a, aligned.params, suite(), 1, ts=5, norm=norm)
    assert found.blocks is not None and {k: v.loss for k, v in found.blocks.items()} == {
        k: v.loss for k, v in blocks.items()
    }
    similarity = mc.representation_similarity(a, b, suite()["plain"])
    assert found.similarity is not None and found.similarity.layers == similarity.layers


def test_sentences_say_what_the_numbers_are(found: mc.Audit) -> None:
    text = str(found)
    effect = found.comparison.a["causes"]
    assert f"one is invariant to last ({100 * found.comparison.a['last'].effect:+.2f} points" in text
    assert f"is sensitive to causes ({100 * effect.effect:+.2f} points" in text
    assert "The mechanisms of one (A) and two (B) are similar:" in text
    barrier = found.paths["before"].barrier("plain")
    assert f"The straight path from one to two, as it is, is {'not ' if barrier.height > 0.05 else ''}" in text
    assert f"{barrier.height:.2f} nats on plain (t = {barrier.t:g}, 95 % interval" in text
    assert "is a conjecture" in text and "not provably the best" in text
    assert "Moving one block at a time" in text and "Linear CKA" in text


def test_record_is_json_without_nan(found: mc.Audit) -> None:
    record = json.loads(found.to_json(), parse_constant=lambda constant: pytest.fail(f"{constant} in the record"))
    assert (record["schema_version"], record["kind"], record["names"]) == (3, "audit", ["one", "two"])
    assert record == found.to_dict() == mc.load_result(record).to_dict()
    assert record["comparison"]["verdict"] == "similar"
    assert record["paths"]["after"]["settings"]["norm"]["data"] == "training data"
    assert record["findings"] == list(found.findings)


def test_page(found: mc.Audit, tmp_path: Path) -> None:
    mc.save_report(found, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    for text in (
        "Do one (A) and two (B) use the same mechanisms?",
        "two aligned to one",
        "Block by block",
        "linear CKA",
    ):
        assert text in page
    assert f"{100 * found.comparison.a.accuracy['plain']:.1f} %" in page
    assert ">nan<" not in page.lower()


@pytest.mark.usefixtures("unchecked")
def test_only_results_have_pages(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a list has no page"):
        mc.save_report([], tmp_path / "none.html")  # pyright: ignore[reportArgumentType]


def test_a_permuted_copy_is_similar_and_connected_after_alignment() -> None:
    a = trained(3)
    symmetry = mc.symmetry_of(a, data()[0][:2])
    b = copy.deepcopy(a)
    b.load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(1)))
    found = mc.audit(a, b, suite(), norm=mc.Reestimate(data()), ts=3, symmetry=symmetry)
    assert found.verdict == "similar"
    assert found.alignment is not None and found.alignment.distance_before > 1.0 > found.alignment.distance_after
    after = found.paths["after"]
    assert max(after.barrier(split).height for split in after.loss) < 1e-9
    assert after.mechanistic_connection(0.1) == "connected"
    assert found.paths["before"].loss["plain"][1] != pytest.approx(after.loss["plain"][1], abs=1e-3)


def test_a_module_that_computes_something_else_with_the_same_tensors_has_no_path() -> None:
    """Names and shapes agree, the nonlinearity does not: A's module with B's weights would not be B."""

    def with_act(act: nn.Module) -> nn.Module:
        return build(lambda: nn.Sequential(nn.Linear(FEATURES, 8), act, nn.Linear(8, CLASSES)), 1)

    found = mc.audit(with_act(nn.ReLU()), with_act(nn.Tanh()), suite(), ts=3)
    assert dict(found.paths) == {}
    assert "not one module" in str(found)


def test_each_line_reads_the_statistics_of_its_own_ends() -> None:
    a, b = trained(1), trained(2)
    found = mc.audit(a, b, suite(), norm=mc.InterpolateNorm(), ts=3)
    assert list(found.paths) == ["before", "after"]
    for line in found.paths.values():  # at t = 1 the network is B, whatever its units' order
        assert line.loss["plain"][-1] == pytest.approx(found.comparison.b.loss["plain"], rel=1e-9)
        assert line.loss["plain"][0] == pytest.approx(found.comparison.a.loss["plain"], rel=1e-9)


def test_kept_statistics_are_those_of_the_first_model_and_the_other_end_says_so() -> None:
    a, b = trained(1), trained(2)
    b.get_buffer("1.running_mean").add_(3.0)
    found = mc.audit(a, b, suite(), norm=mc.KeepNorm(), ts=3, alignment="none")
    line = found.paths["before"]
    assert line.loss == mc.evaluate_path(a, mc.LinearPath.between(a, b), suite(), 3, norm=mc.KeepNorm()).loss
    for saved, measured in zip(line.saved, (found.comparison.a, found.comparison.b), strict=True):
        assert saved is not None and saved.accuracy == measured.accuracy
    assert {shift.end for shift in line.shifted_ends()} == {"B"}
    assert not line.mechanistically_connected(tolerance=1e9)


def test_models_of_different_architecture_are_compared_without_a_path() -> None:
    wide = build(lambda: nn.Sequential(nn.Linear(FEATURES, 12), nn.ReLU(), nn.Linear(12, CLASSES)), 1)
    found = mc.audit(trained(1), wide, suite(), norm=mc.Reestimate(data()), ts=3)
    assert dict(found.paths) == {} and found.alignment is None
    said = next(note for note in found.notes if note.startswith("A and B are not one module with different parameters"))
    assert said.endswith(". So no path in weight space joins them.") and said in str(found)
    json.loads(found.to_json())


class Branching(nn.Module):
    """Its forward pass looks at what it computes, so that its operations cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if bool((self.layer(x).sum() > -1e9).all()) else self.layer(-x)


def test_a_model_that_cannot_be_read_is_audited_without_alignment() -> None:
    found = mc.audit(build(Branching, 1), build(Branching, 2), suite(), ts=3)
    assert list(found.paths) == ["before"] and found.alignment is None
    assert "was not aligned" in str(found) and "must not branch on values" in str(found)


def test_the_door() -> None:
    a = trained(1)
    with pytest.raises(ValueError, match="tolerance must be zero or more"):
        mc.audit(a, a, suite(), norm=mc.KeepNorm(), tolerance=-1.0)
    with pytest.raises(ValueError, match="the model keeps normalisation statistics"):
        mc.audit(a, a, suite())
    with pytest.raises(ValueError, match="layer must be one of"):
        mc.audit(a, a, suite(), norm=mc.Reestimate(data()), layers=["nope"])
