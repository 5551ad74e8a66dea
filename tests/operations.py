"""One row for every public function that takes a model, and for every method: what test_contract.py holds them to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.descent import Method
from mechconn.paths import PathFit
from user_defined import NearestNorm, SineFit, SortedMatching, SphericalPath, Squared
from user_defined_data import StartPenalty
from world import Delicate, model_in_use
from zoo import CLASSES, FEATURES, build, rows

METHODS: dict[str, Method] = {
    "NaiveFineTuning": mc.NaiveFineTuning(epochs=2, batch_size=8),
    "CBFT": mc.CBFT(epochs=2, batch_size=8),
    "CBFT, joint": mc.CBFT(epochs=2, batch_size=8, update="joint"),
    "CBFT, on the way back": mc.CBFT(epochs=2, batch_size=8, rho=0.01),
    "ConnectedFineTuning": mc.ConnectedFineTuning(epochs=2, batch_size=8),
    "ConnectedFineTuning, clean": mc.ConnectedFineTuning(
        epochs=2, batch_size=8, on="clean", update="joint", t_sampling="half"
    ),
    "PathAware": mc.PathAware(epochs=2, batch_size=8, rho=0.01),
    "ShrinkAndPerturb": mc.ShrinkAndPerturb(epochs=2, batch_size=8),
    "FreshBlocks": mc.FreshBlocks(epochs=2, batch_size=8, blocks=2),
    "UNDO": mc.UNDO(epochs=2, batch_size=8, teacher=mc.NaiveFineTuning(epochs=2, batch_size=8)),
    "UNDO, shrunk": mc.UNDO(
        epochs=2, batch_size=8, teacher=mc.CBFT(epochs=2, batch_size=8), shrink=0.5, noise=0.1, label_share=0.2
    ),
    "PathRepair": mc.PathRepair(
        fit=mc.BezierFit(epochs=2, batch_size=8), tune=mc.NaiveFineTuning(epochs=2, batch_size=8)
    ),
    "PathRepair, authors": mc.PathRepair(
        at=0.3,
        fit=mc.BezierFit(epochs=2, batch_size=8, variant="authors"),
        tune=mc.NaiveFineTuning(epochs=2, batch_size=8),
    ),
    "LatentAdversarial": mc.LatentAdversarial(epochs=2, batch_size=8, layer="frozen", radius=0.5, steps=2),
    "LastLayerRetraining": mc.LastLayerRetraining(epochs=2, batch_size=8, lr=0.1),
    "LPFT": mc.LPFT(
        probe=mc.LastLayerRetraining(epochs=2, batch_size=8, lr=0.1), tuning=mc.NaiveFineTuning(epochs=2, batch_size=8)
    ),
    "LPFT, own rate": mc.LPFT(
        probe=mc.LastLayerRetraining(epochs=2, batch_size=8), tuning=mc.NaiveFineTuning(epochs=2, batch_size=8)
    ),
    "DFR": mc.DFR(draws=2),
    "Pro2": mc.Pro2(dims=2),
    "AFR": mc.AFR(on="both", gamma=2.0),
    "JTT": mc.JTT(epochs=1, batch_size=8, identify_epochs=1, on="both", start="fresh"),
    "HardProbe, soup": mc.HardProbe("soup", epochs=2, batch_size=8, lr=0.1, heads=2),
    "LPFT, vat": mc.LPFT(
        probe=mc.HardProbe("vat", epochs=2, batch_size=8), tuning=mc.NaiveFineTuning(epochs=1, batch_size=8)
    ),
    "CBFT, AdamW": mc.CBFT(
        epochs=2, batch_size=8, optimizer="adamw", warmup=0.5, weight_decay=0.05, weight_decay_on="matrices"
    ),
    "LPFT, Adam and RMSprop": mc.LPFT(
        probe=mc.LastLayerRetraining(epochs=2, batch_size=8, optimizer=mc.Adam(betas=(0.8, 0.9))),
        tuning=mc.NaiveFineTuning(epochs=2, batch_size=8, optimizer=torch.optim.RMSprop, warmup=2, clip_norm=0.5),
    ),
    "IRM": mc.IRM(epochs=2, batch_size=8),
    "VREx": mc.VREx(epochs=2, batch_size=8),
    "ConvexCombination": mc.ConvexCombination(epochs=2, batch_size=8),
    "GroupDRO": mc.GroupDRO(epochs=2, batch_size=8),
    "Scratch": mc.Scratch(epochs=2, batch_size=8),
    "Training": mc.Training(epochs=2, batch_size=8),
    "StartPenalty, a user's": StartPenalty(epochs=2, batch_size=8),
}
ON_NORM_MLP: dict[str, Method] = {
    name: replace(method, layer="1") if isinstance(method, mc.LatentAdversarial) else method
    for name, method in METHODS.items()
}
"""The same for `zoo.norm_mlp`, whose layers have other names."""

PATH_FITS: dict[str, PathFit] = {
    "BezierFit": mc.BezierFit(epochs=2, batch_size=8),
    "BezierFit, authors": mc.BezierFit(epochs=2, batch_size=8, variant="authors"),
    "BezierFit, AdamW": mc.BezierFit(epochs=2, batch_size=8, optimizer="adamw", warmup=0.25),
    "PolygonalFit": mc.PolygonalFit(epochs=2, batch_size=8, bends=2),
    "SineFit, a user's": SineFit(epochs=2, batch_size=8),
}

Operation = Callable[[nn.Module, Any], object]


def learned(model: nn.Module, data: Any) -> mc.alignment.Alignment:
    """Rows by index: of batches the same ones."""
    own = data if isinstance(data, tuple) else rows(24)
    return mc.align(model, moved(model), mc.LearnedMatching(own, steps=2, restarts=1), by_hand(model), seed=1)


def by_gradients(model: nn.Module, data: Any) -> mc.alignment.Alignment:
    """Rows by index: of batches the same ones."""
    own = data if isinstance(data, tuple) else rows(24)
    method = mc.GradientMatching(own, mc.weight_change(moved(model), model), points=2, restarts=1)
    return mc.align(model, moved(model), method, by_hand(model), seed=1)


def tuning(method: Method, **settings: Any) -> Operation:
    return lambda model, data: mc.fine_tune(model, method, clean=data, cued=data, **settings)


def beside(model: nn.Module, count: int = 2) -> list[dict[str, Tensor]]:
    """The model's parameters, and points beside them in directions of their own."""
    return [
        {k: v + 0.1 * n * (v > 0 if n > 1 else 1) for k, v in mc.parameters_of(model).items()} for n in range(count)
    ]


def distilling(compute: mc.Compute | None = None, **settings: Any) -> Operation:
    """Into the model, and from it."""
    method = mc.Distillation(epochs=2, batch_size=8, **settings)
    return lambda model, data: mc.distill(model, model, method, data, compute=compute)


def fitting(method: PathFit, **settings: Any) -> Operation:
    """fit_path between the user's own tensors and a point beside them."""
    return lambda model, data: mc.fit_path(
        model, dict(model.named_parameters()), beside(model)[1], method, data, **settings
    )


def along(norm: Callable[[Any], Any], **settings: Any) -> Operation:
    """evaluate_path from the model to a point beside it."""

    def run(model: nn.Module, data: Any) -> object:
        path = mc.LinearPath(*beside(model))
        return mc.evaluate_path(model, path, mc.Suite({"cue": data, "no_cue": data}), ts=3, norm=norm(data), **settings)

    return run


def in_order(data: Any) -> mc.Suite:
    """A loader that shuffles is refused where rows are read until verdicts are settled: its rows in order."""
    own = DataLoader(data.dataset, batch_size=8) if isinstance(data, DataLoader) else data
    return mc.Suite({"cue": own, "hue": own})


def moved(model: nn.Module) -> nn.Module:
    return mc.with_parameters(model, beside(model)[1])


def starred(model: nn.Module, data: Any, **settings: Any) -> mc.FittedStar:
    """A star that starts at the model, of networks beside it; as they are, one that starts beside it, of the model."""
    how = mc.StarFit(epochs=2, batch_size=8, lr=0.01, **settings)
    first, second = (mc.with_parameters(model, point) for point in beside(model, 3)[1:])
    if not how.realign:
        return mc.fit_star(first, {"one": model, "two": second}, how, data, norm=mc.Reestimate(data))
    matching, symmetry = mc.WeightMatching(restarts=1), by_hand(model)
    return mc.fit_star(model, [first, second], how, data, align=matching, symmetry=symmetry, norm=mc.Reestimate(data))


def starred_barriers(model: nn.Module, data: Any) -> object:
    """A star of a network beside the model, which is a held-out run."""
    runs = [mc.with_parameters(model, point) for point in beside(model, 5)[1:]]
    how = mc.StarFit(epochs=1, batch_size=8, lr=0.01, realign=False)
    star = mc.fit_star(runs[0], runs[1:2], how, data, norm=mc.Reestimate(data))
    matching, suite = mc.WeightMatching(restarts=1), mc.Suite({"cue": data})
    return star.barriers(
        [model, *runs[2:]], suite, sources=runs[1:2], align=matching, symmetry=by_hand(model), ts=3,
        norm=mc.Reestimate(data),
    )  # fmt: skip


def behind_a_norm(model: nn.Module) -> nn.Module:
    """The model with a norm behind it whose gain can be folded."""
    with isolate_rng(0, "behind a norm"):
        return nn.Sequential(model, nn.Linear(CLASSES, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def by_hand(model: nn.Module) -> mc.Symmetry:
    """The model branches on values, so that its symmetry must be written."""
    axes = {"frozen.weight": ["h", FEATURES], "frozen.bias": ["h"], "out.weight": [CLASSES, "h"]}
    return mc.Symmetry.from_axes(model, axes, example_input=rows(4)[0])


def by_rule(model: nn.Module) -> None:
    """Two of the model's layers around a user's operation, whose rule stands in the user's file."""
    squared = Squared(model.get_submodule("frozen"), model.get_submodule("out"))
    symmetry = mc.symmetry_of(squared, rows(4)[0])
    assert symmetry.sizes == {"body": FEATURES}
    symmetry.verify(squared)


def grouped(model: nn.Module, data: Any) -> mc.GroupAccuracies:
    if isinstance(data, DataLoader):  # in an order that stays, without which groups cannot be matched
        data = DataLoader(data.dataset, batch_size=8)
    return mc.measure_groups(model, data, [0, 1, 1] * 8)


def transplanted(model: nn.Module, data: Any) -> mc.Transplant:
    """From beside the model onto it; its change leads to the model."""
    base = moved(model)
    change = mc.weight_change(base, model)
    return mc.transplant(
        change, base, model, mc.WeightMatching(restarts=1), by_hand(model), norm=mc.Reestimate(data), seed=1
    )


def transplant_judged(model: nn.Module, data: Any) -> mc.JudgedTransplant:
    """The model gets a change from beside it; that is also what it is tuned to."""
    found, tuned = transplanted(model, data), mc.with_parameters(model, beside(model)[1])
    suite = mc.Suite({"cue": data, "hue": data})
    return mc.judge_transplant(found, model, suite, tuned=tuned, norm=mc.Reestimate(data))


def searched(model: nn.Module, data: Any) -> mc.ScaleSearch:
    """Without the seconds that it took; chosen on other rows, since half of a few rows is too few."""
    suite, change = mc.Suite({"cue": data, "hue": data}), mc.weight_change(model, moved(model))
    other = mc.Suite({"cue": rows(12, 7), "hue": rows(12, 8)})
    found = mc.search_scale(
        model, change, suite, lower="hue", keep=("cue", 0.5), scales=(0.5, 1.0), choosing=other, draws=1,
        norm=mc.Reestimate(data),
    )  # fmt: skip
    return replace(found, seconds=0.0)


def edited(method: Any) -> Operation:
    """Without the seconds that it took; chosen and scored on other rows."""

    def act(model: nn.Module, data: Any) -> mc.SparsestEdit:
        suite = mc.Suite({"cue": data, "hue": data})
        other = mc.Suite({"cue": rows(12, 7), "hue": rows(12, 8)})
        found = mc.sparsest_edit(
            model, rows(12, 9), rows(12, 10), suite, method, lower="hue", keep=[], choosing=other, draws=1,
            floor=0.0, margin=0.01, norm=mc.Reestimate(data),
        )  # fmt: skip
        return replace(found, seconds=0.0)

    return act


def merged(model: nn.Module, data: Any) -> mc.Merged:
    """Without the seconds that it took."""
    suite = mc.Suite({"cue": data, "hue": data})
    return replace(mc.merge({"a": model, "b": moved(model)}, mc.Mean(), suite, norm=mc.Reestimate(data)), seconds=0.0)


def judged(model: nn.Module, data: Any) -> mc.Merged:
    """Without the seconds that it took."""
    suite = mc.Suite({"cue": data, "hue": data})
    return replace(mc.judge_merged({"a": model, "b": moved(model)}, moved(model), suite), seconds=0.0)


def marked(model: nn.Module, data: Any) -> mc.GroupAccuracies:
    if isinstance(data, DataLoader):
        data = DataLoader(data.dataset, batch_size=8)
    marks = {"first": [1, 0, 0] * 8, "either": [1, 1, 0] * 8}
    return mc.measure_groups(model, data, marks, overlapping=True)


def probed(model: nn.Module, data: Any) -> mc.Probe:
    return mc.probe(model, data, control=moved(model), layers=["frozen", "out", "input of out"])


def relearned_in_audit(model: nn.Module, data: Any) -> mc.Relearned:
    measured = mc.Suite({"cue": data, "hue": (rows(16, 5)[0], rows(16, 5)[1])})
    protocol = mc.Relearning(steps=(0, 2, 4), seeds=2, batch_size=8)
    asked = mc.RelearningTask(rows(24, 7), "cue", moved(model), relearning=protocol, intervention="hue")
    second = mc.with_parameters(model, beside(model, 3)[2])
    found = mc.audit(
        model, second, measured, norm=mc.Reestimate(data), ts=3, alignment="none", margin=0.9, relearn=asked
    )
    return found.relearned["B"]


def probed_in_audit(model: nn.Module, data: Any) -> mc.Probe:
    suite, asked = mc.Suite({"cue": data, "hue": data}), mc.ProbeTask(data, layers=["frozen", "out", "input of out"])
    found = mc.audit(model, moved(model), suite, norm=mc.Reestimate(data), ts=3, alignment="none", probe=asked)
    return found.probes["A"]


def grouped_in_audit(model: nn.Module, data: Any) -> mc.GroupAccuracies:
    if isinstance(data, DataLoader):  # as above
        data = DataLoader(data.dataset, batch_size=8)
    suite, asked = mc.Suite({"cue": data, "hue": data}), mc.GroupTask([0, 1, 1] * 8, "hue")
    found = mc.audit(model, moved(model), suite, norm=mc.Reestimate(data), ts=3, alignment="none", groups=asked)
    return found.groups["A"]


def relearned(model: nn.Module, data: Any) -> mc.Relearned:
    """Measured and tuned on data of the user's; the control and the other are of the same architecture."""
    protocol = mc.Relearning(steps=(0, 2, 4), seeds=2, batch_size=8)
    measured = mc.Suite({"cue": data, "hue": (rows(16, 5)[0], rows(16, 5)[1])})
    return mc.measure_relearning(
        model, protocol, rows(24, 7), measured, split="cue", intervention="hue", control=moved(model),
        others={"another": moved(model)}, margin=0.9,
    )  # fmt: skip


def relearning_on(model: nn.Module, data: Any) -> mc.Relearned:
    """The rows to tune on are the user's."""
    protocol = mc.Relearning(steps=(0, 2, 4), seeds=2, batch_size=8)
    measured = mc.Suite({"cue": rows(24, 5), "hue": rows(24, 6)})
    return mc.measure_relearning(
        model, protocol, data, measured, split="cue", intervention="hue", control=moved(model), margin=0.9
    )


def by_row(data: Any) -> Any:
    """What can be read by row: the dataset behind a loader, the tensors of batches."""
    if isinstance(data, list):
        return tuple(torch.cat(parts) for parts in zip(*data, strict=True))
    return data.dataset if isinstance(data, DataLoader) else data


def relied_on(model: nn.Module, data: Any) -> mc.Reliances:
    return mc.reliances(model, by_row(data), ["swap-column", {"name": "bin-column", "columns": 0}])


def dosed(model: nn.Module, data: Any) -> mc.DoseResponse:
    return mc.measure_dose_response(model, by_row(data), {"name": "swap-column", "columns": 1}, 3)


def between_inputs(model: nn.Module, data: Any) -> mc.InputProfiles:
    """The first half of the rows joined to the second."""
    own = by_row(data)
    x, y = own if isinstance(own, tuple) else own.tensors
    half, quick = len(y) // 2, mc.InputBend(steps=2)
    return mc.evaluate_input_path(model, x[:half], x[half:], y[:half], 1, ts=5, bend=quick)


def disagreeing(model: nn.Module, data: Any) -> mc.Disagreement:
    quick = mc.DisagreementSearch(steps=2, batch_size=8, check_every=2)
    return mc.seek_disagreement(model, by_row(data), rows(3, 7), quick)


def written(model: nn.Module, data: Any) -> mc.Invariance:
    with tempfile.TemporaryDirectory() as folder:
        given = mc.load_outputs(mc.save_outputs(model, mc.Suite({"cue": data, "hue": data}), folder))
    return mc.measure_invariance(given, given.suite)


READING: dict[str, Operation] = {
    "evaluate_path": along(lambda _: mc.KeepNorm()),
    "evaluate_path, re-estimated": along(mc.Reestimate),
    "evaluate_path, moving average": along(lambda data: mc.Reestimate(data, average="exponential")),
    "evaluate_path, reduced precision": along(mc.Reestimate, compute=mc.Compute(precision="auto")),
    "evaluate_path, points": lambda model, data: mc.evaluate_path(
        model, mc.LinearPath.between(model, moved(model)), mc.Suite({"cue": data}), ts=3, norm=mc.Reestimate(data)
    ),
    "evaluate_path, a user's path": lambda model, data: mc.evaluate_path(
        model, SphericalPath(model, moved(model)), mc.Suite({"cue": data}), ts=3, norm=mc.Reestimate(data)
    ),
    "evaluate_path, a user's policy": lambda model, data: mc.evaluate_path(
        model, mc.LinearPath.between(model, moved(model)), mc.Suite({"cue": data}), ts=3, norm=NearestNorm()
    ),
    "settle_path": lambda model, data: mc.settle_path(
        model, mc.LinearPath.between(model, moved(model)), in_order(data), ts=3, norm=mc.Reestimate(data)
    ),
    "settle_path, a user's path and policy": lambda model, data: mc.settle_path(
        model, SphericalPath(model, moved(model)), in_order(data), ts=5, norm=NearestNorm(), tolerance=0.5
    ),
    "fit_path, points": lambda model, data: mc.fit_path(model, model, moved(model), PATH_FITS["BezierFit"], data),
    "evaluate_path, samples kept": along(mc.Reestimate, keep_samples=True),
    "evaluate_blocks": lambda model, data: mc.evaluate_blocks(
        model,
        *beside(model),
        suite=mc.Suite({"cue": data}),
        ts=3,
        norm=mc.Reestimate(data),
        cumulative="backward",
        control="random",
        draws=1,
    ),
    "evaluate_plane": lambda model, data: mc.evaluate_plane(
        model, *beside(model, 3), suite=mc.Suite({"cue": data}), points=2, norm=mc.Reestimate(data)
    ),
    "fit_star": lambda model, data: starred(model, data),
    "fit_star, as they are": lambda model, data: starred(model, data, realign=False, own_loss=0.5),
    "FittedStar.barriers": starred_barriers,
    "model_at": lambda model, data: mc.model_at(model, mc.LinearPath(*beside(model)), 0.5, norm=mc.Reestimate(data)),
    **{f"fit_path, {name}": fitting(method) for name, method in PATH_FITS.items()},
    "fit_path, reduced precision": fitting(PATH_FITS["BezierFit"], compute=mc.Compute(precision="auto")),
    "evaluate_alignment": lambda model, data: mc.evaluate_alignment(
        model,
        moved(model),
        mc.WeightMatching(restarts=2),
        mc.Suite({"cue": data}),
        3,
        norm=mc.Reestimate(data),
        symmetry=by_hand(model),
    )["after"],
    "evaluate_alignment, a user's method": lambda model, data: mc.evaluate_alignment(
        model,
        moved(model),
        SortedMatching(),
        mc.Suite({"cue": data}),
        3,
        norm=mc.Reestimate(data),
        symmetry=by_hand(model),
    )["after"],
    "audit": lambda model, data: mc.audit(
        model,
        moved(model),
        mc.Suite({"cue": data, "hue": data}),
        norm=mc.Reestimate(data),
        ts=3,
        alignment=mc.WeightMatching(restarts=1),
        symmetry=by_hand(model),
    ).paths["after"],
    "audit, relearning": relearned_in_audit,
    "audit, probes": probed_in_audit,
    "audit, groups": grouped_in_audit,
    "measure_invariance": lambda model, data: mc.measure_invariance(model, mc.Suite({"cue": data, "hue": data})),
    "measure_invariance, reduced precision": lambda model, data: mc.measure_invariance(
        model, mc.Suite({"cue": data}), compute=mc.Compute(precision="auto")
    ),
    "compare_mechanisms": lambda model, data: mc.compare_mechanisms(
        model, mc.with_parameters(model, beside(model)[1]), mc.Suite({"cue": data, "hue": data})
    ),
    "compare_mechanisms, runs": lambda model, data: mc.compare_mechanisms(
        [model, model], [model, model], mc.Suite({"cue": data, "hue": data})
    ),
    "measure_transfer": lambda model, data: mc.measure_transfer(model, model, mc.Suite({"cue": data, "hue": data})),
    "output_discrepancy": lambda model, data: mc.output_discrepancy(
        model, mc.with_parameters(model, beside(model)[1]), mc.Suite({"cue": data, "hue": data})
    ),
    "representation_similarity": lambda model, data: mc.representation_similarity(
        model, mc.with_parameters(model, beside(model)[1]), data, layers=["frozen", "out"]
    ),
    "representation_similarity, neighbours": lambda model, data: mc.representation_similarity(
        model, mc.with_parameters(model, beside(model)[1]), data, measure="mutual_neighbours", k=2, permutations=2
    ),
    "compare_methods": lambda model, data: (
        mc.compare_methods(
            mc.TuningTask(model, data, mc.Suite({"cue": data, "hue": data}), cued=data), {"CBFT": METHODS["CBFT"]}
        )
        .runs[1]
        .invariance
    ),
    "mechanism_map": lambda model, data: mc.mechanism_map(
        {"a": model, "b": mc.with_parameters(model, beside(model)[1])},
        mc.Suite({"cue": data, "hue": data}),
        ts=3,
        norm=mc.Reestimate(data),
    ),
    "mechanism_map, in one order of units": lambda model, data: mc.mechanism_map(
        {"a": model, "b": mc.with_parameters(model, beside(model)[1])},
        mc.Suite({"cue": data, "hue": data}),
        ts=3,
        norm=mc.Reestimate(data),
        align=mc.UniverseMatching(steps=3, restarts=1),
    ),
    "transplant": transplanted,
    "judge_transplant": transplant_judged,
    "merge": merged,
    "judge_merged": judged,
    "search_scale": searched,
    "sparsest_edit": edited(mc.SetDifference((0.2, 0.5), (0.1,), rows=4)),
    "sparsest_edit, ranks": edited(mc.RankDifference((0.5,), (0.1,))),
    "soup": lambda model, data: mc.soup([model, mc.with_parameters(model, beside(model)[1])], norm=mc.Reestimate(data)),
    "measure_groups": grouped,
    "measure_groups, overlapping": marked,
    "probe": probed,
    "route": lambda model, data: mc.route(
        {"a": model, "b": moved(model)}, mc.Suite({"cue": data, "hue": data}), source=data, clusters=3
    ),
    "measure_neighbours": lambda model, data: mc.measure_neighbours(model, data, {"label": "label"}, k=3),
    "measure_relearning": relearned,
    "measure_relearning, on the user's rows": relearning_on,
    "save_outputs": written,
    "train": lambda model, data: mc.train(model, data, mc.Training(epochs=2, batch_size=8)),
    "distill": distilling(jacobian=0.5, contrastive=0.5),
    "distill, reduced precision": distilling(compute=mc.Compute(precision="auto")),
    **{f"fine_tune, {name}": tuning(method) for name, method in METHODS.items()},
    "fine_tune, head named": tuning(METHODS["CBFT"], head="out"),
    "fine_tune, reduced precision": tuning(METHODS["CBFT"], compute=mc.Compute(precision="auto")),
}
OPERATIONS: dict[str, Operation] = {
    "parameters_of": lambda model, _: mc.parameters_of(model),
    "with_parameters": lambda model, _: mc.with_parameters(model, mc.parameters_of(build(Delicate, 1))),
    "weight_change": lambda model, _: mc.weight_change(model, moved(model)),
    "with_change": lambda model, _: mc.with_change(model, mc.weight_change(model, moved(model)), scale=0.5),
    "symmetry_of": lambda model, _: mc.symmetry_of(model, rows(4)[0]),
    "symmetry_of, a user's rule": lambda model, _: by_rule(model),
    "align": lambda model, _: mc.align(model, moved(model), mc.WeightMatching(restarts=2), by_hand(model), seed=1),
    "align, input covariance": lambda model, data: mc.align(
        model, moved(model), mc.InputCovarianceMatching(data, restarts=1), by_hand(model), seed=1
    ),
    "align, learned": learned,
    "align, gradients": by_gradients,
    "align_many": lambda model, _: mc.align_many(
        {"one": model, "two": moved(model), "three": mc.with_parameters(model, beside(model, 3)[2])},
        mc.UniverseMatching(steps=2, restarts=1),
        by_hand(model),
    ),
    "align_many, onto one": lambda model, _: mc.align_many(
        {"one": model, "two": moved(model)}, mc.WeightMatching(restarts=1), by_hand(model), onto="two"
    ),
    "balance": lambda model, _: mc.balance(model, by_hand(model)),
    "fold": lambda model, _: mc.fold(behind_a_norm(model), rows(4)[0]),
    "balance, units to rescale": lambda model, _: mc.balance(model.get_submodule("block"), example_input=rows(4)[0]),
    "reliances": relied_on,
    "measure_dose_response": dosed,
    "evaluate_input_path": between_inputs,
    "seek_disagreement": disagreeing,
    "point_of": lambda model, _: mc.point_of(model),
    "point_of, between": lambda model, _: mc.LinearPath.between(model, moved(model)).at(0.5),
    "evaluate_path, interpolated": lambda model, data: mc.evaluate_path(
        model,
        mc.LinearPath.between(model, moved(model)),
        mc.Suite({"cue": data, "no_cue": data}),
        ts=3,
        norm=mc.InterpolateNorm(),
    ),
    "model_at, interpolated": lambda model, _: mc.model_at(
        model, mc.LinearPath.between(model, build(Delicate, 1)), 0.5, norm=mc.InterpolateNorm()
    ),
    **READING,
}


def data_for(name: str) -> tuple[Tensor, Tensor]:
    """Reduced precision is for models of float32; the others are of float64."""
    return rows(24, dtype=torch.float32 if "reduced" in name else torch.float64)


def model_for(name: str) -> nn.Module:
    return model_in_use().float() if "reduced" in name else model_in_use()
