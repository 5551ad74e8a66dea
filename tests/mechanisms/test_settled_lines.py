"""The straight lines of an audit that is read until settled: what they share, and how an audit tells of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import mechconn as mc
from mechconn.connectivity import RowReader, settle_lines, walk_lines
from zoo import CLASSES, FEATURES, build

NORM_ROWS = 200
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def data(seed: int, count: int = 1200) -> tuple[Tensor, Tensor]:
    """Rows whose label is the largest of the first three columns."""
    x = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, x[:, :CLASSES].argmax(1)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def suite() -> mc.Suite:
    (x, y), still = data(1), data(1)[0].clone()
    still[:, -1] = data(2)[0][:, -1]
    return mc.Suite({"plain": (x, y), "last": (still, y)}, reference="plain")


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    a, b = (
        mc.train(build(net, seed), data(0), mc.Training(epochs=8, batch_size=100, lr=0.2, milestones=()), seed=seed)
        for seed in (1, 2)
    )
    return a.model.eval(), b.model.eval()


@contextmanager
def count_rows() -> Iterator[list[int]]:
    """Rows of all forward passes in evaluation mode."""
    passed: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Sequential) and not module.training:
            passed.append(len(inputs[0]))

    hook = register_module_forward_pre_hook(note)
    try:
        yield passed
    finally:
        hook.remove()


def norm() -> mc.Reestimate:
    return mc.Reestimate(data(0, NORM_ROWS), label="training data")


def lines_of(
    a: nn.Module, b: nn.Module, aligned: nn.Module | None, tolerance: float = 0.05
) -> dict[str, mc.SettledPath]:
    reader = RowReader(mc.Evaluator(a, suite()))
    moved = None if aligned is None else mc.point_of(aligned)
    return settle_lines(reader, mc.point_of(b), moved, GRID, norm(), tolerance, "accuracy", 0.05)


def test_a_permuted_copy_is_connected_once_it_is_aligned_and_both_lines_share_their_ends(
    pair: tuple[nn.Module, nn.Module],
) -> None:
    a = pair[0]
    symmetry = mc.symmetry_of(a, data(0)[0][:2])
    b = copy.deepcopy(a)
    b.load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(1)))
    with count_rows() as alone:
        lines_of(a, b, None)
    with count_rows() as passed:
        found = lines_of(a, b, a)
    assert found["after"].judge().evaluated == "connected"
    assert all(point.rise == 0.0 for points in found["after"].points.values() for point in points)
    assert any(point.rise != 0.0 for points in found["before"].points.values() for point in points)
    inner = sum(point.rows for points in found["after"].points.values() for point in points)
    further = sum(max(found["after"].read[split] - found["before"].read[split], 0) for split in suite())
    assert sum(passed) - sum(alone) <= inner + 4 * further  # the ends as evaluated and as saved, where read farther


def test_where_no_weight_moved_the_second_line_is_the_first(pair: tuple[nn.Module, nn.Module]) -> None:
    found = lines_of(*pair, pair[1])
    assert found["after"] is found["before"]


def test_verdicts_are_those_of_the_walked_lines(pair: tuple[nn.Module, nn.Module]) -> None:
    aligned = mc.align(*pair, mc.ActivationMatching(data(0), label="training data")).model
    evaluator = mc.Evaluator(pair[0], suite())
    walked = walk_lines(evaluator, mc.point_of(pair[1]), mc.point_of(aligned), GRID, norm())
    pairs = []
    for tolerance in (0.02, 0.05, 0.2):
        for which, line in lines_of(*pair, aligned, tolerance).items():
            full = {split: walked[which].connection(split, tolerance, "accuracy").verdict for split in suite()}
            pairs += [(verdict, full[split]) for split, verdict in line.verdicts.items()]
    assert not {*pairs} & {("connected", "not connected"), ("not connected", "connected")}
    assert len([own for own, whole in pairs if own == "undetermined" != whole]) <= 1  # of 12, near the tolerance


def test_an_evaluator_of_b_lends_what_it_knows(pair: tuple[nn.Module, nn.Module]) -> None:
    a, b = (RowReader(mc.Evaluator(model, suite())) for model in pair)
    for reader in (a, b):
        for look in range(2):
            reader.at(look).outcomes()
    a.adopt(b)
    with count_rows() as passed:
        found = settle_lines(a, b.evaluator.saved, None, GRID, mc.InterpolateNorm(), 0.5, "accuracy", 0.05)["before"]
    inner = sum(point.rows for points in found.points.values() for point in points)
    assert set(found.read.values()) <= {64, 96} and sum(passed) == inner


@pytest.fixture(scope="module")
def audited(pair: tuple[nn.Module, nn.Module]) -> mc.Audit:
    full = mc.audit(*pair, suite(), norm=norm(), ts=GRID, names=("one", "two"))
    aligned = mc.align(*pair, mc.ActivationMatching(data(0), label="training data")).model
    lines = {which: replace(line, names=full.names) for which, line in lines_of(*pair, aligned).items()}
    return replace(full, paths={}, settled_paths=lines)


def test_the_audit_tells_of_settled_lines(audited: mc.Audit) -> None:
    assert {which: found.verdict for which, found in audited.connections.items()} == {
        which: line.verdict for which, line in audited.settled_paths.items()
    }
    text = str(audited)
    assert "The straight path from one to two, as it is, is " in text and "after alignment, is " in text
    assert (
        "tolerance 5 points of the error rate" in text and "Read until settled, each split with 95 % confidence" in text
    )
    assert text.count("biased: reading stops") == 1 and "docs/theory.md" in text
    for line in audited.settled_paths.values():
        assert f"{line.read['plain']:,} of 1,200 rows of plain" in text


def test_the_page_of_an_audit_shows_settled_lines(audited: mc.Audit, tmp_path: Path) -> None:
    titles = [section.title for section in audited.sections()]
    assert {"The straight path, as it is", "The straight path, two aligned to one"} <= {*titles}
    mc.save_report(audited, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "points visited" in page and "What lies between the points was not looked at" in page


def test_an_audit_with_settled_lines_is_read_back(audited: mc.Audit, tmp_path: Path) -> None:
    audited.save(tmp_path / "audit.json")
    loaded = mc.load_result(tmp_path / "audit.json")
    assert isinstance(loaded, mc.Audit) and loaded.to_dict() == audited.to_dict() and str(loaded) == str(audited)
    assert dict(loaded.settled_paths) == dict(audited.settled_paths)
    older = {key: value for key, value in audited.to_dict().items() if key != "settled_paths"}
    assert mc.Audit.from_dict(older).settled_paths == {}


def far(outputs: Tensor, targets: Tensor) -> Tensor:
    """How far the probability of the label is from one."""
    return 1.0 - outputs.softmax(1).gather(1, targets[:, None])[:, 0]


def test_an_audit_judges_paths_in_what_effects_are_measured_on(pair: tuple[nn.Module, nn.Module]) -> None:
    """The margin and the tolerance are in the units of the metric, and the sentences say so."""
    how = {"norm": norm(), "ts": GRID, "metrics": {"far": mc.Metric(far, (0.0, 1.0))}}
    found = mc.audit(*pair, suite(), on="far", until="settled", margin=0.3, tolerance=0.2, **how)  # pyright: ignore
    assert not found.paths and found.settled_paths
    for which, line in found.settled_paths.items():
        judged = found.connections[which]
        assert (line.on, line.unit, line.tolerance, line.margin) == ("far", "in far", 0.2, 0.3)
        assert (judged.tolerance, judged.margin) == (0.2, 0.3) and {end.on for end in judged.shifted} <= {"far"}
    assert "(tolerance 0.2 in far)" in str(found) and "nats" not in " ".join(found.settled_paths["before"].findings)


def test_what_cannot_be_settled_is_audited_to_the_end(pair: tuple[nn.Module, nn.Module]) -> None:
    """As the refusal of a loss by `settle_path` says."""
    line = mc.LinearPath.between(*pair)
    with pytest.raises(ValueError, match=r"a loss has no bounds.* audit\(until='end'\)"):
        mc.settle_path(pair[0], line, suite(), on="loss", norm=norm())
    found = mc.audit(*pair, suite(), norm=norm(), ts=GRID, on="loss", until="end", alignment="none")
    assert found.paths and not found.settled_paths and found.connections["before"].tolerance == 0.05
    assert mc.evaluate_path(pair[0], line, suite(), GRID, norm=norm(), keep_samples=True).connection("plain", 0.05)
