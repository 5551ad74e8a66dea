"""The sparsest edit: planted cues found exactly, brute force over all subsets, scores and ranks by definition."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from math import comb
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import mechconn as mc
from mechconn.core import as_data
from mechconn.losses import cross_entropy
from mechconn.mechanisms import RowValues
from mechconn.merging._edit_scores import EditProblem
from mechconn.merging._edit_verdict import join_edit_claims, judge_edit
from mechconn.merging._scale_verdict import ScaleQuestion
from zoo import Batch, build, mlp, norm_conv, norm_mlp, rows
from zoo import images as zoo_images

HALVES = mc.SetDifference(cue_shares=(0.25, 0.5), clean_shares=(0.0, 0.5))


def planted(count: int, content: bool, cue: float) -> Batch:
    """Rows (content, cue, nothing): the content tells the label or is drawn at random; a cue of 1 tells it."""
    y = torch.arange(count) % 2
    sign, other = 2.0 * y - 1, (-1.0) ** (torch.arange(count) // 2)
    return torch.stack([sign if content else other * sign, cue * sign, torch.zeros(count)], 1), y


def suite(count: int = 4000) -> mc.Suite:
    return mc.Suite({"no_cue": planted(count, True, 0), "rand_image": planted(count, False, 1)}, reference="no_cue")


def linear(weight: Sequence[Sequence[float]]) -> nn.Module:
    model = nn.Sequential(build(lambda: nn.Linear(len(weight[0]), len(weight), bias=False), dtype=torch.float32))
    model[0].weight = nn.Parameter(torch.tensor(weight))  # pyright: ignore
    return model.eval()


def edit(model: nn.Module, data: mc.Suite | None = None, *settings: Any, **named: Any) -> mc.SparsestEdit:
    given = settings or (HALVES,)
    return mc.sparsest_edit(model, planted(40, False, 1), planted(40, True, 0), data or suite(), *given, **named)


def accuracy(model: nn.Module, data: Batch) -> float:
    with torch.no_grad():
        return float((model(data[0]).argmax(1) == data[1]).float().mean())


def test_it_finds_what_brute_force_over_all_subsets_finds() -> None:
    model, data, able = linear([[-1.0, -3.0, 0.5], [1.0, 3.0, 0.5]]), suite(), []
    plain, cued = planted(4000, True, 0), planted(4000, False, 1)
    for size in range(7):
        for zeros in itertools.combinations(range(6), size):
            weight = model[0].weight.detach().clone()  # pyright: ignore
            weight.view(-1)[list(zeros)] = 0.0
            own = linear(weight.tolist())
            if abs(accuracy(own, cued) - 0.5) <= 0.05 and accuracy(own, plain) >= 0.95:
                able.append(zeros)
        if able:
            break
    assert able == [(1, 4)]  # both weights of the cue: with one of them the cue, 3, still wins over the content, 2
    found = edit(model, data)
    assert (found.verdict, found.edited, found.total, found.share) == ("brought to chance", 2, 6, 1 / 3)
    assert found.model[0].weight.flatten().nonzero().flatten().tolist() == [0, 2, 3, 5]  # pyright: ignore
    own = found["rand_image"]
    assert (own.before, own.after) == (1.0, pytest.approx(0.5, abs=0.03)) and own.after_interval is not None
    assert own.after_interval[0] < 0.5 < own.after_interval[1] and found["no_cue"].after == 1.0
    assert found.tried[found.chosen or 0].passes == "shown" and len(found.claims) == 3
    assert all(
        count == (n, 4000 - n)
        for split in found
        for n in [found.row_counts[split][0]]
        for count in [found.row_counts[split]]
    )
    assert model[0].weight[0, 1] == -3.0  # pyright: ignore


def hidden() -> nn.Module:
    """Units relu(c), relu(-c), relu(u), relu(-u) of content and cue; the cue weighs 3 in the head, the content 1."""
    first = linear([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    head = linear([[-1.0, 1.0, -3.0, 3.0], [1.0, -1.0, 3.0, -3.0]])
    model = nn.Sequential(first[0], nn.ReLU(), head[0])  # pyright: ignore
    return model.eval()


def test_a_cue_in_a_known_set_of_weights_of_two_layers_is_found_exactly() -> None:
    model = hidden()
    found = edit(model, None, mc.SetDifference(cue_shares=(0.5,), clean_shares=(0.5,)))
    assert found.verdict == "brought to chance"
    zeroed = {
        name: (found.model.get_parameter(name) != model.get_parameter(name)).nonzero().tolist()
        for name in ("0.weight", "2.weight")
    }
    assert zeroed == {"0.weight": [[2, 1], [3, 1]], "2.weight": [[0, 2], [0, 3], [1, 2], [1, 3]]}
    assert {name: (own.edited, own.total) for name, own in found.layers.items()} == {
        "0.weight": (2, 12),
        "2.weight": (4, 8),
    }
    only = edit(model, None, mc.SetDifference((0.5,), (0.5,), layers=["0"]))
    assert (only.verdict, only.edited, only.total, list(only.layers)) == ("brought to chance", 2, 12, ["0.weight"])
    joint = edit(model, None, mc.SetDifference((0.3,), (0.3,), within="network"))
    assert joint.verdict == "brought to chance" and joint.edited == 6


def own_answers(model: nn.Module) -> mc.Suite:
    """Rows that the model is right on, so that an edit can only lower its accuracy."""
    found = {name: rows(200, seed)[0] for name, seed in (("no_cue", 5), ("rand_image", 6))}
    with torch.no_grad():
        return mc.Suite({name: (x, model(x).argmax(1)) for name, x in found.items()}, reference="no_cue")


LOWER: dict[str, Any] = {"keep": [], "floor": 0.0, "margin": 0.01, "draws": 1}


def test_scores_are_means_of_slopes_row_by_row_and_a_reference_is_taken_as_it_is() -> None:
    model, other = build(norm_mlp).eval(), build(norm_mlp, 1).eval()
    cue, clean = rows(12), rows(10, 3)
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(theta: Any, x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model, (theta, dict(model.named_buffers())), (x[None],))
        return nn.functional.cross_entropy(outputs, y[None])

    # It reaches inside, since these edits need not lower any accuracy, and then none is chosen.
    problem = EditProblem(
        model, as_data("", cue), as_data("", clean), cross_entropy, mc.parameters_of(other), None, 0, mc.Compute()
    )
    family = mc.SetDifference((0.3,), (0.2,)).prepare(problem)
    (edit,) = family.list_edits()
    moved = mc.with_change(model, family.make_change(family.make_moves(edit)))
    drawn = family.draw_moves(edit, 7)
    assert list(family.totals) == ["0.weight", "3.weight"]
    for name in family.totals:
        move = params[name] - other.get_parameter(name).detach()
        slopes = [vmap(grad(loss), (None, 0, 0))(params, *side)[name] for side in (cue, clean)]
        scores = [(move * own).abs().mean(0).flatten() for own in slopes]
        top = [set(s.topk(int(q * len(s))).indices.tolist()) for s, q in zip(scores, (0.3, 0.2), strict=True)]
        expected = sorted(top[0] - top[1])
        before, after, there = (m.get_parameter(name).flatten() for m in (model, moved, other))
        assert (after != before).nonzero().flatten().tolist() == expected
        assert torch.equal(after[expected], there[expected])
        assert edit.counts.get(name, 0) == len(expected)
        if expected:
            assert int((drawn[name] != 0).sum()) == len(expected)


def test_ranks_are_taken_out_by_the_formula() -> None:
    """Against W - (I - P_u) P_s W from the SVD of the layer's outputs."""
    model, cue, clean = build(mlp).eval(), rows(30), rows(25, 3)
    method = mc.RankDifference(cue_shares=(0.5,), clean_shares=(0.25,), layers=["0"])
    found = mc.sparsest_edit(model, cue, clean, own_answers(model), method, **LOWER)
    weight = model.get_parameter("0.weight").detach()
    tops = []
    for (x, _), count in ((cue, 2), (clean, 1)):  # shares of min(5, 4) ranks
        directions = torch.linalg.svd(x @ weight.T, full_matrices=False).Vh[:count]
        tops.append(directions.T @ directions)
    edited = weight - (torch.eye(5, dtype=weight.dtype) - tops[1]) @ tops[0] @ weight
    assert (found.unit, found.total, found.chosen, found.edited) == ("ranks", 4, 0, 2)
    assert torch.allclose(found.model.get_parameter("0.weight"), edited, atol=1e-10)
    assert found.layers["0.weight"].share == 0.5 and "ranks" in found.headline


def test_directions_of_the_cue_alone_go() -> None:
    """Content and cue in two directions of the first layer's outputs: the cue's is taken out, the content stays."""
    model = nn.Sequential(linear([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])[0], linear([[-1.0, -3.0], [1.0, 3.0]])[0]).eval()  # pyright: ignore
    found = edit(model, None, mc.RankDifference(cue_shares=(0.5,), clean_shares=(0.0, 0.5), layers=["0"]))
    assert (found.verdict, found.edited) == ("brought to chance", 1)
    assert torch.allclose(found.model[0].weight, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), atol=1e-6)  # pyright: ignore


def test_what_cannot_be_parted_does_not() -> None:
    """One weight reads content and cue; random edits stand beside."""
    model = linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]])
    both = nn.Sequential(linear([[1.0, 3.0, 0.0]])[0], linear([[-1.0], [1.0]])[0]).eval()  # pyright: ignore
    found = edit(both, None, mc.SetDifference((1.0,), (0.0,), layers=["1"]))
    assert found.verdict in ("does not", "no edit") and found.chosen is None
    assert "none of 1 edits keeps the rest" in str(found) and found.claims == ()
    found = edit(model, None, mc.SetDifference((0.34,), (0.0,)), keep=[], draws=2)
    assert (found.verdict, found.edited) == ("brought to chance", 2) and len(found["rand_image"].random) == 2
    never = edit(linear([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert never.verdict == "no edit" and "at chance on the rows that choose" in never.headline and never.tried == ()
    few = edit(model, suite(40))
    assert few.verdict == "undetermined" and (few.to_settle or 0) > 20 and "would settle it" in few.headline
    weak = edit(linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]]), None, mc.SetDifference((0.17,), (0.0,)), keep=[])
    assert weak.verdict in ("does not", "no edit")  # one weight of two leaves the cue as it was


def test_statistics_follow_the_policy_and_rows_may_choose_apart() -> None:
    model, (x, y) = build(norm_conv).eval(), zoo_images(60)
    data = mc.Suite({"no_cue": (x, y), "rand_image": (x.flip(0), y)}, reference="no_cue")
    cue, clean = zoo_images(20, 3), zoo_images(20, 4)
    how: Any = {"keep": [], "floor": 0.0, "margin": 0.001, "draws": 1}
    family = mc.SetDifference((0.2,), (0.1,), rows=8)
    with pytest.raises(ValueError, match="norm"):
        mc.sparsest_edit(model, cue, clean, data, family, **how)
    kept = mc.sparsest_edit(model, cue, clean, data, family, norm=mc.KeepNorm(), **how)
    again = mc.sparsest_edit(model, cue, clean, data, family, norm=mc.Reestimate(clean), **how)
    buffers = [dict(found.model.named_buffers())["1.running_mean"] for found in (kept, again)]
    assert torch.equal(buffers[0], model.get_buffer("1.running_mean")) and not torch.equal(*buffers)
    assert "Normalisation statistics" in str(again)
    apart = mc.Suite({"no_cue": zoo_images(30, 5), "rand_image": zoo_images(30, 6)}, reference="no_cue")
    found = mc.sparsest_edit(model, cue, clean, data, family, norm=mc.KeepNorm(), choosing=apart, **how)
    assert found.row_counts["rand_image"] == (30, 60)


def test_nothing_is_shown_on_rows_whose_clusters_are_not_known() -> None:
    data, other = suite(400), suite(404)
    cluster = {split: torch.arange(400) // 4 for split in data}
    model = linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]])
    assert "shown" in {own.passes for own in edit(model, data, choosing=other).tried}
    assert {own.passes for own in edit(model, data, choosing=other, cluster=cluster).tried} == {"no", "by means"}


def test_the_verdict_is_wrong_with_two_and_a_half_percent_at_most_on_either_side() -> None:
    """Exactly: over all counts of right rows, for expected accuracies at the ends of what counts as chance."""
    rows_read, floor, margin = 60, 0.5, 0.2
    asked = ScaleQuestion("rand_image", "lower", (), "accuracy", "higher", 0.5, margin, None, floor)
    verdicts = []
    for right in range(rows_read + 1):
        values = {"rand_image": RowValues(torch.arange(rows_read) < right, None)}
        verdicts.append(join_edit_claims(judge_edit(asked, values, values)))
    assert set(verdicts) == {"brought to chance", "does not", "undetermined"}
    assert verdicts[30] == "brought to chance" and verdicts[0] == verdicts[60] == "does not"
    for share, claim in ((0.7, "brought to chance"), (0.3, "brought to chance"), (0.7, "does not"), (0.3, "does not")):
        told = [count for count, verdict in enumerate(verdicts) if verdict == claim]
        wrong = sum(comb(rows_read, n) * share**n * (1 - share) ** (rows_read - n) for n in told)
        assert 0 < wrong <= 0.025


def test_layers_too_wide_for_ranks_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]])
    monkeypatch.setattr("mechconn.merging._input_products.WIDEST", 2)
    with pytest.raises(ValueError, match=re.escape("take SetDifference(), which needs slopes alone")):
        edit(model, None, mc.RankDifference())
    assert edit(model, suite(40), mc.SetDifference()).total == 6  # the remedy


CUED = linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]])


class Relative(nn.Module):
    """Outputs over the mean size of weights, which is 0 where all are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) / self.inner[0].weight.detach().abs().mean()  # pyright: ignore


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a share above 1": (
        {"method": lambda: mc.SetDifference((2.0,))},
        ValueError,
        "cue_shares must be shares in (0, 1]",
    ),
    "no share": (
        {"method": lambda: mc.RankDifference((0.1,), ())},
        ValueError,
        "clean_shares must hold one share or more",
    ),
    "a text for layers": (
        {"method": lambda: mc.SetDifference(layers="0")},
        ValueError,
        "layers must be a list of names, got '0'; leave it out for all linear maps",
    ),
    "another method": ({"method": lambda: mc.Mean()}, TypeError, "method must be SetDifference() or RankDifference()"),
    "a layer that is not there": (
        {"method": lambda: mc.SetDifference(layers=["1"])},
        ValueError,
        "layers= names '1', which holds no linear map; they are 0.weight",
    ),
    "a split that is not there": ({"lower": "cue"}, ValueError, "lower= (a split of the suite)"),
    "a reference of other shapes": ({"reference": lambda: build(mlp)}, ValueError, "reference"),
    "shares of no weight": (
        {"method": lambda: mc.SetDifference((0.01,), (0.0,))},
        ValueError,
        "no edit of these shares changes a weight, so none can be tried; take larger cue_shares=, smaller "
        "clean_shares=",
    ),
    "ranks that are those of the reference": (
        {"method": mc.RankDifference, "reference": lambda: CUED},
        ValueError,
        "no edit of these shares changes a weight, so none can be tried; take larger cue_shares=, smaller "
        "clean_shares=, or another reference=",
    ),
    "edits that leave no outputs": (
        {"method": lambda: mc.SetDifference((1.0,), (0.0,)), "model": Relative},
        ValueError,
        "no edit can be evaluated; take smaller cue_shares=: the edit of 4 weights",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_searched_is_refused_in_one_line(what: str) -> None:
    settings, kind, text = WRONG[what]
    named = {name: value for name, value in settings.items() if name not in ("method", "model", "reference")}
    named |= {"reference": settings["reference"]()} if "reference" in settings else {}
    with pytest.raises(kind, match=re.escape(text)) as caught:
        edit(
            settings.get("model", lambda: CUED)(),
            suite(40),
            *[settings["method"]()] if "method" in settings else [],
            **named,
        )
    assert "\n" not in str(caught.value)
    shares: Any = {"cue_shares": (0.01, 0.1), "clean_shares": (0.01, 0.1)}  # the remedies
    assert mc.SetDifference(**shares).describe()["layers"] is None and mc.RankDifference(**shares).names is None


def test_rows_that_score_must_not_judge() -> None:
    model, data = linear([[-1.0, -3.0, 0.0], [1.0, 3.0, 0.0]]), suite(40)
    with pytest.raises(ValueError, match=re.escape("cue= holds rows that are in the suite (rand_image)")):
        mc.sparsest_edit(model, data["rand_image"], planted(40, True, 0), data, HALVES)
    task = mc.datasets.cue_task("digits", cue=mc.BoxCue(), rows=60, test_rows=40)
    own = mc.models.small_convnet(width=2, seed=0)
    found = mc.sparsest_edit(own, task.cue_only(50), task.clean, task.suite, mc.SetDifference((0.1,), (0.1,), rows=8),
                             norm=mc.KeepNorm(), keep=[], margin=0.01, floor=0.0)  # fmt: skip
    assert found.parameters == sum(p.numel() for p in own.parameters())
