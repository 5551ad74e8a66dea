"""Fitting a star: one network that is joined by straight lines to all the runs of a recipe that it was fitted on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from mechconn.alignment import (
    AlignmentMethod,
    check_finite_weights,
    check_method,
    read_example,
)
from mechconn.connectivity._fitted_star import WEIGHTS, FittedStar
from mechconn.connectivity._star_descent import StarDescent
from mechconn.connectivity._star_fit import StarFit
from mechconn.connectivity._star_networks import hash_weights, list_networks, prove_star_symmetry
from mechconn.core import (
    Compute,
    Data,
    Inputs,
    PerSampleLoss,
    Progress,
    as_data,
    check_is,
    log_warnings,
    resolve_compute,
)
from mechconn.descent import Checkpoint, optimise
from mechconn.losses import cross_entropy
from mechconn.network import (
    KeepNorm,
    Network,
    NormPolicy,
    Point,
    Repair,
    as_points,
    check_joined,
    find_statistics_layers,
    point_of,
    resolve_device,
    resolve_norm,
    unwrap_module,
)
from mechconn.paths import Spot, model_at
from mechconn.symmetry import Symmetry

NAMED = "star data"


@torch.inference_mode(False)  # as in training
def fit_star(
    fresh: nn.Module,
    sources: Mapping[str, nn.Module] | Sequence[nn.Module],
    method: StarFit,
    data: Data,
    *,
    align: AlignmentMethod = WEIGHTS,
    symmetry: Symmetry | None = None,
    norm: NormPolicy | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    transform: Callable[[Inputs], Inputs] | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> FittedStar:
    """Fit a star: minimise E_n E_t L((1 - t) theta + t pi_n(theta_n)) over theta, the sources theta_n held fast.

    With `own_loss` = mu the objective is (E_n E_t L((1 - t) theta + t pi_n(theta_n)) + mu L(theta)) / (1 + mu). Each
    step draws a source n and a t, pure functions of (step, seed), and a batch. The gradient reaches theta alone,
    (1 - t) grad L by the chain rule; the source's algorithm box multiplies by (1 - t) once more, its code does not.
    pi_n is the symmetry that moves source n onto the star as it is when the epoch begins, or none (`realign`).
    Networks are evaluated in training mode: BatchNorm uses the batch's own statistics, and buffers that would move are
    discarded; the star gets its statistics from `norm` at the end. The order of the sources changes nothing.

    Beside what training holds there are, in memory, one copy of every source, and two where sources are realigned.

    Args:
        fresh: where the star starts: a network with fresh weights, which no source has; it stays as it is.
        sources: runs of one recipe, by name or in a row, of the same module as `fresh`; they stay as they are.
        method: `StarFit(...)`.
        data: the data of the loss L, those of the sources: an (x, y) pair, a dataset, or a re-iterable of batches.
        align: how a source is matched with the star, where sources are realigned.
        symmetry: what may be moved; default: permutations and signs of units, found on the first two rows of the data.
            Pass `symmetry_of(model, x)` to move scales and linear maps too, which was not better (docs/star.md).
            It is proved once, on a source.
        norm: where the star's normalisation statistics come from; required when the model keeps any.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`.
        transform: of the inputs of every batch, such as an augmentation; what it draws from torch's global generator
            is a function of the seed.
        checkpoint: where to write how far the run is; a run that finds its file goes on from there.
        seed: of sources and t, the order of the data, dropout, and of matching.
        compute: how to compute; see `Compute`. A model that holds bfloat16 or float16 is computed and updated as a
            float32 copy, which is rounded to its types at the end.
        device: short for `Compute(device=...)`; default: where `fresh` is.
        progress: short for `Compute(progress=...)`; counts epochs.

    Raises:
        ValueError: no sources, sources that are not `fresh` with other parameters and statistics (the two are named),
            a source that stands there twice or is `fresh`, `align` or `symmetry` where nothing is realigned, a
            symmetry that does not hold, `norm` is missing; the data or the checkpoint as in `train`.
        TypeError: a method that fits no star, or data that can be read only once.
        FloatingPointError: the loss became infinite or NaN; the step is named, and the last good checkpoint stays.

    Example:
        One weight, whose output must be 1, and a source at 2. E_t[((1 - t) theta + 2 t - 1)^2] is least at
        theta = (E[1 - t] - 2 E[t (1 - t)]) / E[(1 - t)^2] = (1 / 2 - 2 / 6) / (1 / 3) = 0.5.

        >>> one = [nn.Linear(1, 1, bias=False).requires_grad_(False) for _ in range(2)]
        >>> for model, weight in zip(one, (9.0, 2.0)):
        ...     _ = model.weight.fill_(weight)
        >>> data = (torch.ones(800, 1), torch.ones(800))
        >>> how = StarFit(epochs=20, batch_size=8, lr=0.02, weight_decay=0.0, realign=False)
        >>> squared = lambda outputs, y: (outputs[:, 0] - y).square()
        >>> star = fit_star(one[0].requires_grad_(True), one[1:], how, data, loss=squared)
        >>> round(star.model.weight.item(), 1)
        0.5

    Source: Sonthalia et al. 2025, *Do deep neural network solutions form a star domain?*, section 3.
    """
    started, compute = time.perf_counter(), resolve_compute(compute, device, progress)
    check_is("method", method, StarFit, "; pass StarFit(epochs=...)")
    check_method(align, "align")
    _check_used(method, align, symmetry)
    fresh = unwrap_module(fresh, "fresh")
    known, clean = list_networks("sources", "source", sources), as_data(NAMED, data)
    if not known:
        raise ValueError("fit_star needs one source or more, got none; pass trained runs of the recipe")
    network = Network(fresh, compute)
    policy = check_star_norm(norm, network)
    example = read_example(clean, network.device, fresh)
    points = check_sources(fresh, known, network, example, ignore)
    hashes = {name: hash_weights(model) for name, model in known.items()}
    _check_distinct(hashes, hash_weights(fresh))
    order = sorted(known, key=hashes.__getitem__)
    notes: list[str] = []
    if method.realign:
        symmetry = _prove_symmetry(known[order[0]], symmetry, align, example, network, seed)
        if not symmetry.sizes and not symmetry.actions:
            notes.append("the symmetry holds no units that may be moved: the sources stay as they are")
    else:
        symmetry = None
    descent = StarDescent(method, [points[name] for name in order], [hashes[name] for name in order], align, symmetry)
    trained = optimise(
        fresh, descent, clean, {}, what="fitting the star", named=NAMED, loss=loss, seed=seed, compute=compute,
        transform=transform, checkpoint=checkpoint,
    )  # fmt: skip
    model = _give_statistics(trained.model, policy, seed, compute)
    log_warnings("fitting the star", notes)
    return FittedStar(
        trained.history,
        {**trained.settings, "norm": policy.describe()},
        time.perf_counter() - started,
        hashes,
        (*notes, *trained.notes),
        model,
        symmetry,
    )


def _check_used(method: StarFit, align: AlignmentMethod, symmetry: Symmetry | None) -> None:
    """Raise ValueError where the way to match units is given and they are not to be matched."""
    given = {"align": align is not WEIGHTS, "symmetry": symmetry is not None}
    if not method.realign and any(given.values()):
        names = " and ".join(f"{name}=" for name, is_given in given.items() if is_given)
        raise ValueError(f"{names} has no effect with StarFit(realign=False); leave it out, or realign=False")


def _check_distinct(sources: Mapping[str, str], fresh: str) -> None:
    """Raise ValueError where two sources are one network, or one is the fresh network; both are hashes of weights."""
    seen: dict[str, str] = {}
    for name, weights in sources.items():
        if weights in seen:
            raise ValueError(f"the sources {seen[weights]!r} and {name!r} are one network; leave one out")
        if weights == fresh:
            raise ValueError(
                f"fresh is the source {name!r}; pass a network with fresh weights, or leave the source out"
            )
        seen[weights] = name


def check_star_norm(norm: NormPolicy | None, network: Network) -> NormPolicy:
    """The policy of the star's statistics.

    Raises:
        ValueError: none is given where the model keeps statistics, or that of the fresh network; or `Repair`, which
            needs a path.
    """
    layers = list(find_statistics_layers(network))
    if layers and (norm is None or isinstance(norm, KeepNorm)):
        given = "without norm= the star would have" if norm is None else "norm=KeepNorm() would give the star"
        raise ValueError(
            f"{given} the statistics of the fresh network ({', '.join(layers[:3])}), which are of no data; pass "
            "norm=Reestimate(training batches)"
        )
    if isinstance(norm, Repair):
        use = "norm=Reestimate(training batches)" if layers else "nothing, since the model keeps no statistics"
        raise ValueError(f"norm=Repair() rescales points between networks, and a star is one; pass {use}")
    return resolve_norm(norm, network)


def check_sources(
    fresh: nn.Module, sources: Mapping[str, nn.Module], network: Network, example: Inputs, ignore: Sequence[str]
) -> dict[str, Point]:
    """The sources' points, once each is the fresh network with other parameters and statistics.

    Raises:
        ValueError: one is not; it is named. Or a weight is not finite.
    """
    names = [f"source {name!r}" for name in sources]
    for name, model in zip(names, sources.values(), strict=True):
        check_finite_weights(name, model)
    own, *points = as_points(["fresh", *names], [fresh, *sources.values()], ignore)
    for name, model, point in zip(names, sources.values(), points, strict=True):
        check_joined(
            (fresh, model), (network, Network(model, network.compute)), (own, point), lambda: example,
            ignore=ignore, names=("fresh", name),
        )  # fmt: skip
    return dict(zip(sources, points, strict=True))


def _prove_symmetry(
    model: nn.Module, symmetry: Symmetry | None, align: AlignmentMethod, example: Inputs, network: Network, seed: int
) -> Symmetry:
    """What may be moved, proved on a source.

    Raises:
        ValueError: it does not hold; or the method would run the star with statistics that are not its own.
    """
    device = resolve_device(model, None)
    if align.example(device, model) is not None and any(True for _ in find_statistics_layers(network)):
        raise ValueError(
            f"{type(align).__name__} runs the star in evaluation mode, and a star that is being fitted has no "
            "normalisation statistics of its own; pass align=WeightMatching(), which reads no data"
        )
    return prove_star_symmetry(model, symmetry, example, seed)


def _give_statistics(model: nn.Module, norm: NormPolicy, seed: int, compute: Compute) -> nn.Module:
    """The star with the statistics of a policy."""
    point = point_of(model)
    spot = Spot(lambda: {name: tensor.clone() for name, tensor in point.params.items()}, [point])
    return model_at(model, spot, 0.5, norm=norm, seed=seed, compute=compute)
