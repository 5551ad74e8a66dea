"""What is advised on data, settings and weights of a method; see `test_advice_tuning`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from advice import (
    CBFT,
    CLEAN,
    CUED,
    NAIVE,
    PATH,
    Advice,
    Bare,
    Drawn,
    Twin,
    X,
    Y,
    adapt,
    compare,
    fit,
    frozen,
    loader,
    masked,
    mean_loss,
    planted,
    squared,
    start_of,
    task,
    tune,
    without,
)
from operations import METHODS
from zoo import build, mlp, norm_mlp, rows


def broken() -> nn.Module:
    """A network with a weight that is NaN."""
    model = build(mlp)
    with torch.no_grad():
        model.get_parameter("0.bias")[0] = torch.nan
    return model


def standing() -> mc.LinearPath:
    """A path from a network to itself."""
    return mc.LinearPath.between(build(mlp), build(mlp))


METHODS_ADVICE: dict[str, Advice] = {
    "NO_PATH": Advice(
        lambda: mc.soup([build(norm_mlp, seed) for seed in range(3)], norm=mc.InterpolateNorm()),
        "pass norm=Reestimate(training batches)",
        (lambda: mc.soup([build(norm_mlp, seed) for seed in range(3)], norm=mc.Reestimate(CLEAN)),),
    ),
    "ALL_FROZEN": Advice(
        lambda: fit(frozen()), "call requires_grad_() on some", (lambda: fit(frozen(but="0.weight")),)
    ),
    "AUTHORS_BENDS": Advice(
        lambda: mc.BezierFit(bends=2, variant="authors"),
        "use variant='default'",
        (lambda: mc.BezierFit(bends=2, variant="default"),),
    ),
    "ADAPTERS": Advice(
        lambda: tune(adapt(), CBFT, cued=CUED),
        "merge the adapters first (model.merge_and_unload().requires_grad_()), or use another",
        (lambda: tune(adapt().merge_and_unload().requires_grad_(), CBFT, cued=CUED), lambda: tune(adapt(), NAIVE)),
    ),
    "CUED_NEEDED": Advice(
        lambda: tune(method=CBFT),
        "pass cued=..., the data that the model was trained on",
        (lambda: tune(method=CBFT, cued=CUED),),
    ),
    "DFR_CLASSES": Advice(
        lambda: tune(method=mc.DFR(draws=2), clean=without(2)),
        "give samples of each",
        (lambda: tune(method=mc.DFR(draws=2)),),
    ),
    "DFR_GROUPS": Advice(
        lambda: tune(method=mc.DFR(draws=2), groups=[1] + [0] * 23),
        "give larger groups, or groups that hold every class",
        (lambda: tune(method=mc.DFR(draws=2), groups=[row % 2 for row in range(24)]),),
    ),
    "DFR_LABELS": Advice(
        lambda: tune(method=mc.DFR(draws=2), clean=(X, Y.double()), loss=squared),
        "needs whole-number targets [N] and a head with an output for each class",
        (lambda: tune(method=mc.DFR(draws=2), clean=(X, Y)),),
    ),
    "DIRECTIONS": Advice(
        lambda: tune(method=mc.Pro2(dims=9), cued=CUED),
        "the features of the cued data span 5; set dims= to 5 or fewer",
        (lambda: tune(method=mc.Pro2(dims=5), cued=CUED),),
    ),
    "DIVERGED": Advice(
        lambda: tune(method=mc.NaiveFineTuning(lr=1e6, epochs=80), loss=squared),
        "lower the learning rate",
        (lambda: tune(method=mc.NaiveFineTuning(lr=1e-2, epochs=80), loss=squared),),
    ),
    "EMPTY": Advice(
        lambda: tune(clean=(X[:0], Y[:0])), "holds no samples; at least one is needed", (lambda: tune(clean=(X, Y)),)
    ),
    "GROUPS_NEEDED": Advice(
        lambda: tune(method=METHODS["GroupDRO"]),
        "pass groups=..., a label for each clean row, or cued=..., data with the cue",
        (
            lambda: tune(method=METHODS["GroupDRO"], groups=[row % 2 for row in range(24)]),
            lambda: tune(method=METHODS["GroupDRO"], cued=CUED),
        ),
    ),
    "GROUPS_NEED_ROWS": Advice(
        lambda: tune(method=METHODS["GroupDRO"], clean=[CLEAN], groups=[row % 2 for row in range(24)]),
        "must be a dataset or an (x, y) pair of tensors",
        (lambda: tune(method=METHODS["GroupDRO"], clean=CLEAN, groups=[row % 2 for row in range(24)]),),
    ),
    "ACCURACY_OF_A_REGRESSION": Advice(
        lambda: compare(
            tasks=task(clean=(X, Y.double()), suite=mc.Suite({"cue": (X, Y.double())})), loss=squared, on="accuracy"
        ),
        "needs a classification (whole-number targets [N], outputs [N, K], or a loss that says what is right, as "
        "mechconn.losses.binary does); use on='loss'",
        (
            lambda: compare(
                tasks=task(clean=(X, Y.double()), suite=mc.Suite({"cue": (X, Y.double())})), loss=squared, on="loss"
            ),
            lambda: compare(tasks=task(suite=mc.Suite({"cue": (X, Y)})), on="accuracy"),
        ),
    ),
    "HARD_PROBE_SETTING": Advice(
        lambda: mc.HardProbe("soup", alpha=2.0),
        "alpha is a setting of vat, got alpha=2.0 with kind='soup'; leave it out",
        (lambda: mc.HardProbe("soup"), lambda: mc.HardProbe("vat", alpha=2.0)),
    ),
    "HEADS": Advice(
        lambda: tune(method=mc.HardProbe("soup", epochs=1, heads=6)),
        "6 heads are more than the 5 features; set heads= to 5 or fewer",
        (lambda: tune(method=mc.HardProbe("soup", epochs=1, heads=5)),),
    ),
    "KEEP_UNKNOWN": Advice(
        lambda: tune(method=mc.Scratch(epochs=1, keep=("head",))),
        "it has 0.weight, 0.bias, 2.weight, 2.bias",
        (lambda: tune(method=mc.Scratch(epochs=1, keep=("0.weight", "2.bias"))),),
    ),
    "NO_LAYER": Advice(
        lambda: tune(method=mc.LatentAdversarial(epochs=1, layer="body")),
        "layer='body' is no module of this model; name one of 0, 1, 2",
        tuple(lambda n=n: tune(method=mc.LatentAdversarial(epochs=1, layer=str(n))) for n in range(3)),
    ),
    "NO_LAYER_ONCE": Advice(
        lambda: tune(build(Twin), mc.LatentAdversarial(epochs=1, layer="unused")),
        "name another layer",
        (lambda: tune(build(Twin), mc.LatentAdversarial(epochs=1, layer="left")),),
    ),
    "ANCHORS_ARE_NO_LIST": Advice(
        lambda: mc.ConnectedFineTuning(anchors=build(mlp)),  # pyright: ignore[reportArgumentType]
        "write anchors=[model]",
        (lambda: mc.ConnectedFineTuning(anchors=[build(mlp)]),),
    ),
    "ANCHOR_IS_NO_NETWORK": Advice(
        lambda: mc.ConnectedFineTuning(anchors=["a.safetensors"]),  # pyright: ignore[reportArgumentType]
        "pass ConnectedFineTuning(anchors=[model]) in Python",
        (lambda: mc.ConnectedFineTuning(anchors=[build(mlp)]),),
    ),
    "ANCHOR_IS_NOT_FINITE": Advice(
        lambda: mc.ConnectedFineTuning(anchors=[build(mlp), broken()]),
        "leave it out, or take an earlier checkpoint",
        (lambda: mc.ConnectedFineTuning(anchors=[build(mlp)]),),
    ),
    "NO_PERTURBATION": Advice(
        lambda: mc.ShrinkAndPerturb(shrink=0.0, noise=0.0),
        "set one of them above zero",
        (lambda: mc.ShrinkAndPerturb(shrink=0.1, noise=0.0), lambda: mc.ShrinkAndPerturb(shrink=0.0, noise=0.1)),
    ),
    "NO_SUCH_BLOCKS": Advice(
        lambda: tune(method=mc.FreshBlocks(epochs=1, blocks=3)),
        "the model has 2 modules with trainable parameters: 0, 2; set blocks= to 2 or fewer",
        (lambda: tune(method=mc.FreshBlocks(epochs=1, blocks=2)),),
    ),
    "NOTHING_TO_COMPARE": Advice(
        lambda: compare(methods={}), "needs a task and a method or more", (lambda: compare(methods={"naive": NAIVE}),)
    ),
    "NOTHING_TRAINABLE": Advice(
        lambda: tune(frozen()),
        "call requires_grad_() on those to change",
        (lambda: tune(frozen(but="2.bias")),),
    ),
    "NOT_BY_ROW": Advice(
        lambda: compare(tasks=task(clean=[CLEAN]), selection="validation"),
        "needs a dataset or an (x, y) pair of tensors",
        (lambda: compare(tasks=task(clean=CLEAN), selection="validation"),),
    ),
    "NOT_PER_SAMPLE": Advice(
        lambda: tune(loss=mean_loss),
        "use reduction='none'",
        (lambda: tune(loss=lambda outputs, y: cross_entropy(outputs, y, reduction="none")),),
    ),
    "NO_CHECKPOINT_FOLDER": Advice(
        lambda: mc.Checkpoint("nowhere/run.safetensors"), "its folder does not exist; make it first", ()
    ),
    "NO_FRESH": Advice(
        lambda: tune(build(Bare), mc.Scratch(epochs=1)),
        "their modules have no reset_parameters(); add it, or name it in keep=",
        (
            lambda: tune(build(Bare), mc.Scratch(epochs=1, keep=("scale",))),
            lambda: tune(build(Drawn), mc.Scratch(epochs=1)),
        ),
    ),
    "NO_FRESH, of a path": Advice(
        lambda: fit(build(Bare), mc.BezierFit(epochs=1, variant="authors")),
        "add it, or use variant='default'",
        (
            lambda: fit(build(Bare), mc.BezierFit(epochs=1, variant="default")),
            lambda: fit(build(Drawn), mc.BezierFit(epochs=1, variant="authors")),
        ),
    ),
    "NO_HISTORY": Advice(
        lambda: tune(method=mc.DFR(draws=2)).plot(), "has no epochs, so there is no history", (lambda: tune().plot(),)
    ),
    "NO_PATH_FIT": Advice(
        lambda: fit(build(mlp), NAIVE),
        "BezierFit(...) or PolygonalFit(...)",
        (lambda: fit(build(mlp), PATH), lambda: fit(build(mlp), mc.PolygonalFit(epochs=1))),
    ),
    "NO_PROPORTION": Advice(
        lambda: tune(method=replace(CBFT, cued_proportion=0.9), cued=CUED),
        "pass cued=task.train, or leave it unset",
        (
            lambda: (
                (task := planted())
                and tune(start_of(task), replace(CBFT, cued_proportion=0.9), clean=task.clean, cued=task.train)
            ),
            lambda: tune(method=replace(CBFT, cued_proportion=None), cued=CUED),
        ),
    ),
    "ONE_CLASS": Advice(
        lambda: tune(clean=(X, torch.ones_like(Y))),
        "training needs samples of at least two classes",
        (lambda: tune(clean=(X, Y)),),
    ),
    "REFERENCE": Advice(
        lambda: tune(masked(0), CBFT, cued={"box": CUED}, references={"box": masked(1)}),
        "pass mechconn.with_parameters(model, mechconn.parameters_of(reference))",
        (
            lambda: tune(
                masked(0),
                CBFT,
                cued={"box": CUED},
                references={"box": mc.with_parameters(masked(0), mc.parameters_of(masked(1)))},
            ),
        ),
    ),
    "REFERENCES": Advice(
        lambda: tune(method=CBFT, cued=CUED, references={"box": build(mlp, 1)}),
        "pass cued={name: data} and references={name: model}",
        (lambda: tune(method=CBFT, cued={"box": CUED}, references={"box": build(mlp, 1)}),),
    ),
    "SAME_SEED": Advice(
        lambda: compare(tasks=[task(), task()]),
        "tasks must have seeds of their own",
        (lambda: compare(tasks=[task(), task(seed=1)]),),
    ),
    "SINGLE_ROW": Advice(
        lambda: tune(build(norm_mlp), clean=loader(17)),
        "leave that batch out, as drop_last=True does in a loader, or give the dataset itself",
        (
            lambda: tune(build(norm_mlp), clean=loader(17, drop_last=True)),
            lambda: tune(build(norm_mlp), clean=rows(17)),
        ),
    ),
    "SINGLE_ROW, by its size": Advice(
        lambda: tune(build(norm_mlp), replace(CBFT, batch_size=1), cued=CUED),
        "(a batch of clean data and cued data 1 has one row; layers that normalise over a batch need two: set "
        "batch_size= to two or more)",
        (lambda: tune(build(norm_mlp), replace(CBFT, batch_size=2), cued=CUED),),
    ),
    "SINGLE_ROW, of a row": Advice(
        lambda: tune(build(norm_mlp), clean=(X[:1], Y[:1].double()), loss=squared),
        "give two rows or more",
        (lambda: tune(build(norm_mlp), clean=(X[:2], Y[:2].double()), loss=squared),),
    ),
    "START_TAKEN": Advice(
        lambda: compare(methods={"start": NAIVE}),
        "give the method another name",
        (lambda: compare(methods={"naive": NAIVE}),),
    ),
    "TWO_BUDGETS": Advice(
        lambda: compare(epochs=1, passes=1),
        "leave one of them out",
        (lambda: compare(epochs=1), lambda: compare(passes=1)),
    ),
    "a warm-up as long as the run": Advice(
        lambda: mc.CBFT(epochs=2, warmup_epochs=2),
        "warmup_epochs must be zero or more and below epochs = 2, got 2; else the invariance term is never used "
        "(invariance=False says so)",
        (
            lambda: tune(method=mc.CBFT(epochs=2, warmup_epochs=1), cued=CUED),
            lambda: tune(method=mc.CBFT(epochs=2, warmup_epochs=2, invariance=False), cued=CUED),
        ),
    ),
    "methods as a list": Advice(
        lambda: compare(methods=[NAIVE]), "write {name: method, ...}", (lambda: compare(methods={"naive": NAIVE}),)
    ),
    "NO_LENGTH": Advice(
        lambda: standing().by_length(),
        "the path has no length: all its points are the same; evaluate it by t, as it is",
        (lambda: mc.evaluate_path(build(mlp), standing(), mc.Suite({"cue": rows(6)}), ts=3),),
    ),
    "ALIKE_FEATURES": Advice(
        lambda: tune(method=mc.Pro2(dims=2), cued=(torch.zeros_like(CUED[0]), CUED[1])),
        "give rows that the network tells apart, or use another method",
        (
            lambda: tune(method=mc.Pro2(dims=2), cued=CUED),
            lambda: tune(cued=(torch.zeros_like(CUED[0]), CUED[1])),
        ),
    ),
}
