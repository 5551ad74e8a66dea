"""Outputs in the place of models: the same effects, comparisons, discrepancies and groups; all else refuses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.datasets import cue_task
from zoo import build, mlp, rows

X, Y = rows(300)
SUITE = mc.Suite(
    {"cue": (X, Y), "r": (X.flip(0), Y), "turned": (X.flip(1), Y)},
    redraws={"r": [(X.roll(1, 0), Y), (X.roll(7, 0), Y)]},
)
A, B = build(mlp, 0), build(mlp, 1)


def given(model: nn.Module, folder: Path, suite: mc.Suite = SUITE, **how: Any) -> mc.ModelOutputs:
    return mc.load_outputs(mc.save_outputs(model, suite, folder), reference=suite.reference, **how)


VERBS: dict[str, Callable[[Any, Any, mc.Suite], Any]] = {
    "effects": lambda a, b, suite: mc.measure_invariance(b, suite),
    "effects on the loss": lambda a, b, suite: mc.measure_invariance(b, suite, on="loss"),
    "effects on a metric": lambda a, b, suite: mc.measure_invariance(
        b, suite, on="top", metrics={"top": lambda outputs, y: outputs.max(1).values}
    ),
    "comparison": lambda a, b, suite: mc.compare_mechanisms(a, b, suite),
    "comparison on the loss": lambda a, b, suite: mc.compare_mechanisms(a, b, suite, on="loss"),
    "comparison over runs": lambda a, b, suite: mc.compare_mechanisms([a, b], [b, a], suite),
    "discrepancy": lambda a, b, suite: mc.output_discrepancy(a, b, suite),
}


@pytest.mark.parametrize("verb", VERBS)
def test_outputs_give_the_numbers_of_the_models(verb: str, tmp_path: Path) -> None:
    expected = VERBS[verb](A, B, SUITE).to_dict()
    a, b = given(A, tmp_path / "a"), given(B, tmp_path / "b")
    for models, suite in (((a, b), a.suite), ((a, b), b.suite), ((a, b), SUITE), ((A, b), SUITE), ((a, B), SUITE)):
        assert VERBS[verb](*models, suite).to_dict() == expected


class Drawing(nn.Module):
    """A network that draws in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * torch.randn(x.shape, dtype=x.dtype)


class Centred(nn.Module):
    """A network that sees how rows are divided into batches."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@pytest.mark.parametrize("verb", VERBS)
def test_outputs_of_a_network_that_draws_are_those_that_are_measured(verb: str, tmp_path: Path) -> None:
    model = Drawing()
    found = given(model, tmp_path)
    expected = VERBS[verb](model, model, SUITE).to_dict()
    assert VERBS[verb](found, found, SUITE).to_dict() == expected
    assert VERBS[verb](found, model, SUITE).to_dict() == expected
    other = mc.load_outputs(mc.save_outputs(model, SUITE, tmp_path / "other", seed=1))
    assert not torch.equal(other.outputs["cue"], found.outputs["cue"])
    assert mc.measure_invariance(other, SUITE).loss == mc.measure_invariance(model, SUITE, seed=1).loss


def test_outputs_are_computed_as_was_asked(tmp_path: Path) -> None:
    how, counted = mc.Compute(batch_size=7), list[tuple[int, int]]()
    files = mc.save_outputs(
        Centred(), SUITE, tmp_path, compute=how, progress=lambda event: counted.append((event.done, event.total))
    )
    found = mc.load_outputs(files)
    expected = torch.cat([part - part.mean(0) for part in X.split(7)])
    torch.testing.assert_close(found.outputs["cue"], expected, rtol=0, atol=0)
    assert counted == [(1, 3), (2, 3), (3, 3)]
    assert mc.output_discrepancy(Centred(), found, SUITE, compute=how).mean == 0.0
    assert mc.output_discrepancy(found, Centred(), SUITE).mean > 0.0


def with_ids(folder: Path, ids: list[str], inputs: Tensor, splits: tuple[str, ...] = ("cue", "hue")) -> mc.ModelOutputs:
    """Outputs of four rows of one class."""
    folder.mkdir()
    file = folder / "cue.csv"
    lines = [",".join([name, "0", *map(str, row)]) for name, row in zip(ids, inputs.tolist(), strict=True)]
    file.write_text("\n".join(["id,label,z_0,z_1", *lines]) + "\n", encoding="utf-8")
    return mc.load_outputs(dict.fromkeys(splits, file))


class Named:
    """Data with names of rows."""

    def __init__(self, x: Tensor, ids: Any) -> None:
        self.x, self.y, self.ids = x, torch.zeros(len(x), dtype=torch.int64), ids

    def __len__(self) -> int:
        return len(self.x)

    def inputs(self, index: Tensor) -> Tensor:
        return self.x[index]


@pytest.mark.parametrize("names", [["p", "q", "r", "s"], ["4", "5", "60", "7"]])
def test_rows_of_other_ids_are_refused(names: list[str], tmp_path: Path) -> None:
    x, turned = X[:4, :2], [0, 2, 1, 3]
    a = with_ids(tmp_path / "a", names, x)
    b = with_ids(tmp_path / "b", [names[row] for row in turned], x[turned])
    said = "split 'cue': the id of row 1 is another with the outputs that were given than in the data (2 rows differ); "
    with pytest.raises(ValueError) as caught:
        mc.compare_mechanisms(a, b, a.suite)
    assert str(caught.value) == f"{said}give outputs in the order of the data, and data that are not shuffled"
    with pytest.raises(ValueError, match="data: the id of row 1 is another with the outputs"):
        alone = with_ids(tmp_path / "alone", [names[row] for row in turned], x[turned], ("cue",))
        mc.measure_groups(alone, a.suite["cue"], [0, 1, 0, 1])
    mc.compare_mechanisms(a, with_ids(tmp_path / "again", names, x), a.suite)  # as advised
    ids = torch.tensor(list(map(int, names))) if names[0].isdigit() else names
    suite = mc.Suite({name: Named(x, ids) for name in ("cue", "hue")})
    mc.measure_invariance(a, suite)
    with pytest.raises(ValueError, match="the id of row 1 is another"):
        mc.measure_invariance(b, suite)
    saved = given(nn.Identity(), tmp_path / "saved", suite)  # with the ids of the data
    assert mc.measure_invariance(saved, suite).loss == mc.measure_invariance(saved, a.suite).loss
    assert mc.output_discrepancy(nn.Identity(), a, suite).mean == 0.0


def test_draws_of_other_ids_are_refused(tmp_path: Path) -> None:
    head = "id,label,z_0,z_1"
    for name, (first, second) in {"a": "pq", "b": "qp"}.items():
        (tmp_path / f"{name}.csv").write_text(f"{head}\n{first},0,1,2\n{second},0,3,4\n", encoding="utf-8")
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    with pytest.raises(
        ValueError, match=r"b.csv row 0: the id is another than in .*a.csv \(2 rows differ\); a draw is"
    ):
        mc.load_outputs({"cue": a, "hue": [a, b]})
    mc.load_outputs({"cue": a, "hue": [a, a]})


def test_groups_of_one_split(tmp_path: Path) -> None:
    found, groups = given(A, tmp_path), (torch.arange(300) % 3).tolist()
    expected = mc.measure_groups(A, SUITE["turned"], groups).to_dict()
    assert mc.measure_groups(found, found.suite["turned"], groups).to_dict() == expected  # pyright: ignore
    with pytest.raises(
        ValueError, match=r"several splits \(cue, r, turned\); pass the rows of one .*given.suite\['cue'\]"
    ):
        mc.measure_groups(found, (X.flip(1), Y), groups)
    one = given(A, tmp_path / "one", mc.Suite({"cue": (X.flip(1), Y)}))
    assert mc.measure_groups(one, (X.flip(1), Y), groups).to_dict() == expected


def test_one_logit(tmp_path: Path) -> None:
    model = build(lambda: nn.Linear(4, 1), 3)
    suite = mc.Suite({"cue": (X, (Y > 0).double()), "r": (X.flip(0), (Y > 0).double())})
    found, loss = given(model, tmp_path, suite), mc.losses.binary
    for where in (suite, found.suite):
        assert (
            mc.measure_invariance(found, where, loss=loss).to_dict()
            == mc.measure_invariance(model, suite, loss=loss).to_dict()
        )
        assert mc.output_discrepancy(found, found, where, loss=loss).mean == 0.0


def test_one_number_of_a_regression(tmp_path: Path) -> None:
    model = build(lambda: nn.Linear(4, 1), 3)
    suite = mc.Suite({"cue": (X, X[:, 0]), "r": (X.flip(0), X[:, 0])})
    found, how = given(model, tmp_path, suite), {"loss": mc.losses.squared, "on": "loss"}
    assert (
        mc.measure_invariance(found, found.suite, **how).to_dict()
        == mc.measure_invariance(model, suite, **how).to_dict()
    )


def test_how_often_predictions_change_is_known_where_rows_correspond(tmp_path: Path) -> None:
    task = cue_task("digits", seed=0)
    suite = mc.Suite({name: task.suite[name].subset(torch.arange(60)) for name in task.suite})  # pyright: ignore
    pixels = suite["cue"].inputs(torch.arange(1)).numel()  # pyright: ignore
    model = build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(pixels, 10)), 0, torch.float32)
    found, expected = given(model, tmp_path, suite), mc.measure_invariance(model, suite)
    assert any(effect.changed is not None for effect in expected.values())
    assert mc.measure_invariance(found, found.suite).to_dict() == expected.to_dict()


def test_the_data_say_how_splits_were_chosen(tmp_path: Path) -> None:
    column = torch.where(torch.arange(300) % 3 > 0, Y, (Y + 1) % 3)
    splits = mc.split_by_agreement((X, Y), column.tolist())
    suite = mc.Suite(splits, reference=next(iter(splits)))
    found = given(A, tmp_path, suite)
    assert mc.measure_invariance(found, suite).to_dict() == mc.measure_invariance(A, suite).to_dict()


# ---------------------------------------------------------------- suites of other rows


def shuffled_labels() -> mc.Suite:
    return mc.Suite({name: (x, Y.flip(0)) for name, (x, _) in pairs().items()})


def pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {"cue": (X, Y), "turned": (X.flip(1), Y)}


OTHER: dict[str, tuple[Callable[[], mc.Suite], str]] = {
    "labels": (shuffled_labels, r"split 'cue': the label of row \d+ is \d with the outputs that were given and \d in"),
    "rows": (
        lambda: mc.Suite({name: (x[:9], y[:9]) for name, (x, y) in pairs().items()}),
        r"split 'cue': outputs were given for 300 rows with labels \[300\], and the data have 9",
    ),
    "splits": (
        lambda: mc.Suite(pairs() | {"new": (X, Y)}),
        "no outputs were given for split 'new', only for cue, r, turned; add its file",
    ),
    "draws": (
        lambda: mc.Suite(pairs() | {"r": (X, Y)}),
        "outputs of 3 draws were given for split 'r', and the suite has 1; give a file for each draw",
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_other_rows_are_refused(case: str, tmp_path: Path) -> None:
    make, said = OTHER[case]
    found, suite = given(A, tmp_path), make()
    for verb in ("effects", "comparison", "discrepancy"):
        with pytest.raises(ValueError, match=said) as error:
            VERBS[verb](found, found, suite)
        assert "\n" not in str(error.value)


def test_loaders_are_matched_and_a_part_of_the_splits_is_enough(tmp_path: Path) -> None:
    loaders = {name: DataLoader(TensorDataset(x, y), batch_size=64) for name, (x, y) in pairs().items()}
    found = given(A, tmp_path)
    assert (
        mc.measure_invariance(found, mc.Suite(loaders)).accuracy == mc.measure_invariance(A, mc.Suite(pairs())).accuracy
    )


def test_classes_of_another_order_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("label,pos,neg\nneg,1,2\npos,1,2\n", encoding="utf-8")
    found = mc.load_outputs({"cue": file, "r": file})
    images = mc.datasets.ImageSet(torch.zeros(2, 1, 2, 2).byte(), torch.tensor([1, 0]), ("neg", "pos"))
    with pytest.raises(ValueError, match=r"name classes in different orders \(class 0 is 'pos' and 'neg'\)"):
        mc.measure_invariance(found, mc.Suite({"cue": images, "r": images}))


# ---------------------------------------------------------------- what needs weights

ENDS = mc.parameters_of(A), mc.parameters_of(B)
LINE = mc.LinearPath(*ENDS)
NEED_WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "audit": lambda m: mc.audit(m, B, SUITE, norm=None),
    "audit, the second": lambda m: mc.audit(A, m, SUITE, norm=None),
    "evaluate_path": lambda m: mc.evaluate_path(m, LINE, SUITE),
    "evaluate_blocks": lambda m: mc.evaluate_blocks(m, *ENDS, SUITE, blocks="layers"),
    "align": lambda m: mc.align(A, m, mc.WeightMatching(), mc.symmetry_of(B, X[:4])),
    "align, the first": lambda m: mc.align(m, B, mc.WeightMatching(), mc.symmetry_of(B, X[:4])),
    "symmetry_of": lambda m: mc.symmetry_of(m, X[:4]),
    "representation_similarity": lambda m: mc.representation_similarity(A, m, (X, Y)),
    "probe": lambda m: mc.probe(m, (X, Y)),
    "probe, the control": lambda m: mc.probe(A, (X, Y), control=m),
    "measure_neighbours": lambda m: mc.measure_neighbours(m, (X, Y), {"label": "label"}),
    "evaluate_input_path": lambda m: mc.evaluate_input_path(m, X, X, Y),
    "seek_disagreement": lambda m: mc.seek_disagreement(m, (X, Y), X),
    "mechanism_map": lambda m: mc.mechanism_map({"a": A, "b": m}, SUITE),
    "parameters_of": mc.parameters_of,
    "with_parameters": lambda m: mc.with_parameters(m, mc.parameters_of(A)),
    "soup": lambda m: mc.soup([A, m]),
    "train": lambda m: mc.train(m, (X, Y), mc.Training(epochs=1)),
}


@pytest.mark.parametrize("verb", NEED_WEIGHTS)
def test_what_needs_weights_says_what_works_instead(verb: str, tmp_path: Path) -> None:
    found = given(A, tmp_path)
    with pytest.raises(TypeError, match="use measure_invariance, compare_mechanisms, output_discrepancy") as error:
        NEED_WEIGHTS[verb](found)
    assert "\n" not in str(error.value)
