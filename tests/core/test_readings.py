"""Batches and datasets as people have them: which part is the input, which the target, and what is refused."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import mechconn as mc
from zoo import build

ROWS = 60
X = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(0))
Y, G = torch.arange(ROWS) % 3, torch.arange(ROWS) % 2


class WithLabels(nn.Module):
    """As Transformers' classifiers: the labels are an optional argument."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.net(x if labels is None else x * 0)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.net(first - second)


class Masked(nn.Module):
    """As a Transformers encoder: every argument is optional."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None) -> Tensor:
        assert input_ids is not None and attention_mask is not None
        return self.net(input_ids * attention_mask)


def single(factory: Any) -> nn.Module:
    return build(factory, dtype=torch.float32).eval()


LINEAR, OPTIONAL = single(lambda: nn.Linear(6, 3)), single(WithLabels)


def share(outputs: Tensor, y: Tensor = Y) -> float:
    return float((outputs.argmax(1) == y).double().mean())


def measured(model: nn.Module, data: Any) -> float:
    return mc.measure_invariance(model, mc.Suite({"cue": data}, interventions=())).accuracy["cue"]


Sample = namedtuple("Sample", ["x", "y", "group"])


def named(batch: Any) -> dict[str, Tensor]:
    x, y, g = (torch.stack([row[i] for row in batch]) for i in range(3))
    return {"x": x, "y": y, "group": g}


@pytest.mark.parametrize("model", [LINEAR, OPTIONAL], ids=["linear", "labels"])
def test_a_group_beside_the_label_is_never_taken_for_it(model: nn.Module) -> None:
    """(x, y, group) as GroupDRO, DFR and WILDS give it: refused as a plain tuple, read where the parts have names."""
    loader = DataLoader(TensorDataset(X, Y, G), 20)
    with pytest.raises(
        ValueError, match=r"batch 0 has 3 parts, and which are the targets is not clear: part 2, .* or part 3"
    ):
        measured(model, loader)
    expected = share(model(X))
    with_names = DataLoader(TensorDataset(X, Y, G), 20, collate_fn=named)
    tuples = [Sample(X[i : i + 20], Y[i : i + 20], G[i : i + 20]) for i in range(0, ROWS, 20)]
    pairs = [(x, y) for x, y, _ in tuples]  # the first remedy, and the second
    for data in (with_names, tuples, pairs):
        assert measured(model, data) == pytest.approx(expected)


def test_the_same_holds_where_networks_are_trained() -> None:
    loader, ends = DataLoader(TensorDataset(X, Y, G), 20), (mc.parameters_of(LINEAR), mc.parameters_of(LINEAR))
    for call in (
        lambda: mc.train(LINEAR, loader, mc.Training(epochs=1)),
        lambda: mc.fine_tune(LINEAR, mc.NaiveFineTuning(epochs=1), clean=loader),
        lambda: mc.fine_tune(LINEAR, mc.LastLayerRetraining(epochs=1), clean=loader),
        lambda: mc.fit_path(LINEAR, *ends, mc.BezierFit(epochs=1), loader),
    ):
        with pytest.raises(ValueError, match="has 3 parts, and which are the targets is not clear"):
            call()
    tuned = [
        mc.train(LINEAR, data, mc.Training(epochs=1, batch_size=20)).model
        for data in (DataLoader(TensorDataset(X, Y, G), 20, collate_fn=named), DataLoader(TensorDataset(X, Y), 20))
    ]
    for a, b in zip(tuned[0].parameters(), tuned[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_all_parts_but_one_are_inputs_by_the_signature() -> None:
    two, masked, mask = single(TwoInputs), single(Masked), (X > 0).float()
    assert measured(two, DataLoader(TensorDataset(X, X.flip(1), Y), 20)) == pytest.approx(share(two(X, X.flip(1))))
    assert measured(masked, DataLoader(TensorDataset(X, mask, Y), 20)) == pytest.approx(share(masked(X, mask)))
    with pytest.raises(ValueError, match="has 4 parts"):
        measured(two, DataLoader(TensorDataset(X, X, Y, G), 20))
    with pytest.raises(ValueError, match="has 3 parts"):  # y has not the shape of a mask
        measured(masked, DataLoader(TensorDataset(X, Y, G), 20))


def test_named_parts_that_the_model_does_not_take_are_left_out() -> None:
    masked, mask = single(Masked), (X > 0).float()
    batch = {"input_ids": X, "attention_mask": mask, "token_type_ids": X, "labels": Y, "idx": G}
    assert measured(masked, [batch]) == pytest.approx(share(masked(X, mask)))
    assert measured(LINEAR, [{"image": X, "target": Y, "place": G}]) == pytest.approx(share(LINEAR(X)))
    with pytest.raises(ValueError, match=r"has the parts x, y, target: y and target may both be the targets; keep one"):
        measured(LINEAR, [{"x": X, "y": Y, "target": G}])
    with pytest.raises(ValueError, match=r"names first, other, and the forward pass takes input; call the inputs as"):
        measured(LINEAR, [{"first": X, "other": X, "y": Y}])


def test_a_forward_pass_that_refuses_a_batch_says_how_it_was_read() -> None:
    with pytest.raises(TypeError, match=r"it was called with 1 inputs by place \(float32 \[60, 6\]\)") as caught:
        measured(single(TwoInputs), [(X, Y)])
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- datasets and arrays


class Images(Dataset[Any]):
    """A user's own."""

    def __init__(self, extra: bool = False) -> None:
        self.extra, self.read = extra, 0

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> Any:
        self.read += 1
        return {"x": X[i], "y": int(Y[i]), "idx": i} if self.extra else (X[i], int(Y[i]))


class Hub:
    """Rows as the hub's datasets give them: plain lists and numbers under names."""

    column_names = ("input", "label")

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input": X[i].tolist(), "label": int(Y[i]), "text": f"row {i}"}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(ROWS))


FORMS: dict[str, Any] = {
    "torch dataset": lambda: TensorDataset(X, Y),
    "subset": lambda: Subset(TensorDataset(X, Y), list(range(ROWS))),
    "own dataset": lambda: Images(),
    "own dataset with names": lambda: Images(extra=True),
    "rows of the hub": lambda: Hub(),
    "list of samples": lambda: [(X[i], Y[i]) for i in range(ROWS)],
    "list of samples, plain labels": lambda: [(X[i].numpy(), int(Y[i])) for i in range(ROWS)],
    "numpy pair": lambda: (X.numpy(), Y.numpy()),
    "float64 numpy pair": lambda: (X.double().numpy(), Y.numpy().astype(np.int32)),
    "labels a list": lambda: (X, Y.tolist()),
    "mapping of columns": lambda: {"x": X, "y": Y},
    "inputs by name": lambda: ({"input": X}, Y),
    "batches of arrays": lambda: [(X.numpy()[:40], Y.numpy()[:40]), (X.numpy()[40:], Y.numpy()[40:])],
    "batches with labels as lists": lambda: [(X, Y.tolist())],
}


@pytest.mark.parametrize("form", FORMS)
def test_data_in_every_form_give_the_same_numbers(form: str) -> None:
    expected = mc.measure_invariance(LINEAR, mc.Suite({"cue": (X, Y)}, interventions=()))
    found = mc.measure_invariance(LINEAR, mc.Suite({"cue": FORMS[form]()}, interventions=()))
    assert found.accuracy == expected.accuracy and found.samples == {"cue": ROWS}
    assert found.loss["cue"] == pytest.approx(expected.loss["cue"], rel=1e-6)


@pytest.mark.parametrize(
    "form", ["torch dataset", "subset", "own dataset", "own dataset with names", "list of samples"]
)
def test_map_style_datasets_are_shuffled_and_sampled_like_ours(form: str) -> None:
    """Training on rows by index meets the same rows in the same order as on a pair of tensors."""
    method = mc.Training(epochs=2, batch_size=16)
    expected, found = (mc.train(LINEAR, data, method, seed=3).model for data in ((X, Y), FORMS[form]()))
    for a, b in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.equal(a, b)
    if form == "own dataset with names":
        return  # functions get the names, and no model is known yet
    suites = (
        mc.intervened(data, {"noise": lambda x, draws: x + draws.uniform("a")[:, None]})
        for data in ((X, Y), FORMS[form]())
    )
    a, b = (mc.measure_invariance(LINEAR, suite) for suite in suites)
    assert a.accuracy == b.accuracy
    splits = mc.split_by_group(FORMS[form](), G.tolist())
    assert torch.equal(splits["1"].y, Y[G == 1])


@pytest.mark.usefixtures("unchecked")
def test_what_gives_no_batch_is_told_in_one_line() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield X[0], Y[0]

    with pytest.raises(TypeError, match="an IterableDataset gives single samples; pass a DataLoader over it"):
        mc.Suite({"cue": Stream()})
    ragged = [(torch.zeros(i + 1), 0) for i in range(3)]
    with pytest.raises(
        RuntimeError, match=r"samples 0 \.\.\. 2 cannot be put into a batch .*; let the dataset give tensors"
    ):
        measured(LINEAR, ragged)
    with pytest.raises(ValueError, match="3 inputs but 2 targets"):
        mc.Suite({"cue": (np.zeros((3, 4)), [0, 1])})


@pytest.mark.parametrize("rows", [65, 3])
def test_a_last_batch_of_one_row_joins_the_one_before_it(rows: int) -> None:
    """As our own datasets' batches do; the statistics are those of the same batches."""
    x, y = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1)), torch.arange(rows) % 2
    model = build(lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)), dtype=torch.float32)
    size = rows - 1
    loader, own = DataLoader(TensorDataset(x, y), size), mc.Reestimate((x, y), batch_size=size)
    found, expected = (mc.soup([model, model], norm=norm) for norm in (mc.Reestimate(loader), own))
    for a, b in zip(found.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_batches_of_one_row_each_are_refused_in_one_line() -> None:
    model = build(lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"has one row.*two rows or more") as caught:
        mc.soup([model, model], norm=mc.Reestimate(DataLoader(TensorDataset(X, Y), 1)))
    assert "\n" not in str(caught.value)
    mc.soup([model, model], norm=mc.Reestimate(DataLoader(TensorDataset(X, Y), 2)))


# ---------------------------------------------------------------- rows that correspond


def changed(splits: dict[str, Any], **how: Any) -> float | None:
    return mc.measure_invariance(LINEAR, mc.Suite(splits, **how))["r"].changed


class Numbered:
    """A user's dataset whose rows have identities."""

    def __init__(self, x: Tensor, ids: Tensor) -> None:
        self.x, self.y, self.ids = x, Y, ids

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Tensor:
        return self.x[index]


def test_predictions_change_only_on_rows_that_are_known_to_correspond() -> None:
    moved = X.flip(1)
    expected = float((LINEAR(X).argmax(1) != LINEAR(moved).argmax(1)).double().mean())
    pair = {"cue": (X, Y), "r": (moved, Y)}
    plain = mc.measure_invariance(LINEAR, mc.Suite(pair))
    assert plain["r"].changed is None and plain["r"].paired and "predictions change" not in str(plain)
    known = mc.measure_invariance(LINEAR, mc.Suite(pair, paired=True))
    assert known["r"].changed == pytest.approx(expected) and "predictions change" in str(known)
    assert known["r"].interval == plain["r"].interval
    assert changed(pair, paired=False) is None
    assert changed({"cue": DataLoader(TensorDataset(X, Y)), "r": DataLoader(TensorDataset(moved, Y))}) is None
    ids = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    assert changed({"cue": Numbered(X, ids), "r": Numbered(moved, ids)}) == pytest.approx(expected)
    assert changed({"cue": Numbered(X, ids), "r": Numbered(moved, ids.flip(0))}) is None
    suite = mc.intervened((X, Y), {"r": lambda x, draws: x.flip(1)}, reference="cue")
    assert mc.measure_invariance(LINEAR, suite)["r"].changed == pytest.approx(expected)


def test_rows_said_to_correspond_must_have_equal_targets() -> None:
    with pytest.raises(
        ValueError, match=r"Suite\(paired=True\) says that rows of split 'r' show those of the reference"
    ):
        changed({"cue": (X, Y), "r": (X, Y.flip(0))}, paired=True)
    assert changed({"cue": (X, Y), "r": (X, Y.flip(0))}) is None


# ---------------------------------------------------------------- whole data by name


def test_whole_data_in_a_named_tuple_are_read_by_name() -> None:
    turned = namedtuple("turned", ["label", "image"])
    assert measured(LINEAR, turned(Y, X)) == pytest.approx(share(LINEAR(X)))
    assert measured(LINEAR, Sample(X, Y, G)) == pytest.approx(share(LINEAR(X)))
    unlabelled = namedtuple("unlabelled", ["x", "group"])
    with pytest.raises(ValueError, match="has the parts x, group: call the targets 'y'"):
        mc.Suite({"cue": unlabelled(X, G)}, interventions=())


@pytest.mark.parametrize("data", [(X, Y, G), [X, Y], (X, np.array(["a"] * ROWS))])
def test_what_is_no_pair_is_told_as_it_was_given(data: Any) -> None:
    with pytest.raises(TypeError, match=r"data must be an \(x, y\) pair, .* got a (tuple|list) of \d parts; write"):
        mc.measure_groups(LINEAR, data, G.tolist())


def test_samples_are_read_for_their_targets_once() -> None:
    data = Images()
    suite = mc.Suite({"cue": data}, interventions=())
    path = mc.LinearPath(mc.parameters_of(LINEAR), mc.parameters_of(LINEAR))
    mc.evaluate_path(LINEAR, path, suite, ts=3)
    assert data.read <= 1 + ROWS + 3 * ROWS


def test_inputs_of_another_kind_of_number_are_told_in_one_line() -> None:
    with pytest.raises(TypeError, match=r"int64 \[60, 6\].*such as x\.float\(\)$") as caught:
        measured(LINEAR, (X.long(), Y))
    assert "\n" not in str(caught.value)
    assert measured(LINEAR, (X.long().float(), Y)) >= 0
