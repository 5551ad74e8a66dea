"""How alike two networks represent the same data: linear centred kernel alignment (CKA), mutual neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from mechconn.core import (
    Compute,
    Data,
    Inputs,
    Progress,
    as_data,
    count_batches,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    resolve_compute,
)
from mechconn.mechanisms._layers import LayerPair, LayersAsked, NoActivation
from mechconn.mechanisms._representation_result import RepresentationSimilarity, SimilarityMeasure
from mechconn.mechanisms._similarity_readings import SimilarityRequest, make_reading
from mechconn.network import ROWS_ON_CPU, Network, Point, fix_device, point_of


@torch.no_grad()
def representation_similarity(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Data,
    layers: LayersAsked = None,
    *,
    layers_b: Sequence[str] | Literal["all"] | None = None,
    measure: SimilarityMeasure = "cka",
    k: int = 10,
    clamp: float = 0.95,
    permutations: int = 0,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> RepresentationSimilarity:
    r"""Linear CKA, or mutual nearest neighbours, between two models' activations on the same rows.

    **CKA.** With centred activations X [N, p] of A and Y [N, q] of B,

        CKA = ||Y' X||_F^2 / (||X' X||_F ||Y' Y||_F),

    1 where one is the other up to rotation, reflection and one scale, so a permutation of units does not matter.
    Matrices of second moments are accumulated in one pass, in float64: memory grows with the square of the widths and
    not with N. This is the biased estimate: unrelated activations come out near p / N rather than 0. `unbiased` holds
    HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)) beside it, whose numerator has mean 0 where they are unrelated; read
    that one where N is not well above the widths (`samples`, `widths`). The formulas stand in
    `mechconn.mechanisms._cka_sums`.

    **Mutual neighbours.** Of each row the k nearest others by the cosine of features, in A and in B: the mean share
    that both have in common, |S_A(i) n S_B(i)| / k. By chance, that is on average over random orders of B's rows, it is
    k / (N - 1), `chance`. Features are clamped to [-q, q] first, with q the mean over rows of the `clamp` quantile of a
    row's |features|. Rows at equal cosines, to nine digits, share the last places, so that the order of rows does not
    matter; where many rows are alike, a network is thus below 1 even with itself. All rows are kept.

    There is no interval: see `NO_INTERVAL` in what is printed.

    The units of a convolution are its channels, averaged over positions: flattened maps would have moments of
    (channels x positions)^2 entries and compare where a feature is, not whether it is there. Activations of four
    dimensions or more, and those of Conv1d and BatchNorm1d, are read as [N, channels, positions ...], all others as
    [N, positions ..., units], or as [positions, N, units] of layers with batch_first=False. Of packed and nested
    sequences the positions that are there are averaged. Of a tuple, list, mapping or dataclass the first part counts:
    the output of `nn.LSTM` and of `nn.MultiheadAttention`.

    By default the layers are all linear maps (convolutions, also transposed ones, linear layers, and GPT-2's `Conv1D`),
    all recurrent layers and cells, and `nn.MultiheadAttention`. A layer has one activation to compare where its forward
    pass runs once on every batch in both models, with finite outputs for each row. Those that have none are left out
    and named in `left_out`: heads that serve training alone, blocks and cells that run several times, weights that
    another module uses without calling their layer. Layers that are asked for by name are refused instead.

    Alike representations are no evidence of one mechanism: a network may represent a cue and not use it.

    Args:
        model_a: any network; it stays as it is.
        model_b: a network that has the layers by the same names.
        data: one split, such as suite["cue"].
        layers: names of modules, as in `model.named_modules()`; default, or "all": every such layer that runs once; or
            a mapping of a layer of A to one or several of B.
        layers_b: names of modules of B, or "all": each of them is compared with every one of `layers`, which are A's.
        measure: "cka" or "mutual_neighbours".
        k: neighbours of each row, fewer than there are other rows.
        clamp: of neighbours, the quantile in (0, 1]; 1 clamps nothing.
        permutations: random orders of B's rows. With any, `largest` holds the largest value over all pairs (of CKA the
            unbiased one) beside its chance over these orders: the largest of many is large by chance too, more so the
            more pairs there are. All rows are kept, and of neighbours all pairs of rows that tie.
        seed: of random orders, and of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where A is.
        progress: short for `Compute(progress=...)`; counts batches.

    Raises:
        ValueError: layers asked for by name: a model lacks one (a near name is suggested), it runs not once in a
            forward pass, gives no tensor, or an activation is not finite. By default: no layer is left to compare. A
            clamp outside (0, 1], k as large as the number of rows, another measure.
        TypeError: layers that are a text other than "all"; a mapping and `layers_b`.

    Example:
        >>> one = nn.Linear(2, 2).requires_grad_(False)
        >>> other = nn.Linear(2, 2).requires_grad_(False)
        >>> _ = one.weight.copy_(torch.eye(2)), other.weight.copy_(torch.tensor([[0.0, 3.0], [-3.0, 0.0]]))
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 5.0], [2.0, 2.0]])
        >>> found = representation_similarity(nn.Sequential(one), nn.Sequential(other), (x, torch.zeros(3)))
        >>> round(found["0"], 6)  # a rotation and a scale
        1.0

    Source: Kornblith, Norouzi, Lee & Hinton, *Similarity of neural network representations revisited*, ICML 2019;
    Song, Smola, Gretton, Bedo & Borgwardt 2012 (HSIC_1); Nguyen, Raghu & Kornblith 2021 (CKA of it); Huh, Cheung, Wang
    & Isola 2024 (mutual neighbours).
    """
    how = SimilarityRequest(measure, k, clamp, permutations)
    networks, points = _load_pair(model_a, model_b, resolve_compute(compute, device, progress))
    return compare_layers(networks, points, data, layers, seed, layers_b, how)


def compare_layers(
    networks: tuple[Network, Network],
    points: tuple[Point, Point],
    data: Data,
    layers: LayersAsked,
    seed: int,
    layers_b: Sequence[str] | Literal["all"] | None = None,
    how: SimilarityRequest | None = None,
) -> RepresentationSimilarity:
    """`representation_similarity` of two networks where they stand."""
    pair, how, compute = LayerPair(networks, points, layers, layers_b), how or SimilarityRequest(), networks[0].compute
    source, rows = as_data("data", data), compute.choose_batch_size(ROWS_ON_CPU)
    read, samples = make_reading(pair.pairs, how), 0
    with isolate_rng(seed, "representation_similarity"), keep_generator_states(data):
        count = 0 if compute.progress is None else count_batches("data", source, rows)
        batches = iterate_batches("data", source, batch_size=rows, device=pair.device, model=networks[0].module)
        for number, (inputs, targets) in enumerate(batches):
            samples += len(targets)
            for name, unfit in read.add(pair.activations(inputs, len(targets)), len(targets)).items():
                if pair.by_name:
                    raise unfit.error(_name_layer(pair.pairs[name], unfit))
            compute.report("comparing layers", number + 1, count)
    left_out = dict(pair.left_out)
    for name, unfit in read.unfit.items():
        left_out.setdefault(_name_layer(pair.pairs[name], unfit), unfit)
    kept = {name: own for name, own in pair.pairs.items() if name not in read.unfit}
    if not kept:
        raise NoLayersError(left_out)
    named = layers_b is not None or isinstance(layers, Mapping)
    return RepresentationSimilarity(
        widths={name: read.widths[name] for name in kept},
        samples=samples,
        left_out={name: str(why) for name, why in left_out.items()},
        compute=pair.computed,
        pairs=kept if named else {},
        measure=how.measure,
        **read.finish(kept, seed),
    )


def _name_layer(pair: tuple[str, str], unfit: NoActivation) -> str:
    return pair[0 if unfit.whose == "model_a" else 1]


def _load_pair(
    model_a: nn.Module, model_b: nn.Module, compute: Compute
) -> tuple[tuple[Network, Network], tuple[Point, Point]]:
    """Both networks, where A computes, and where they stand."""
    compute = fix_device(compute, model_a)
    return (Network(model_a, compute), Network(model_b, compute)), (point_of(model_a), point_of(model_b))


@torch.no_grad()
def check_layers(
    model_a: nn.Module,
    model_b: nn.Module,
    example: Inputs,
    layers: Sequence[str] | str | None = None,
    *,
    seed: int = 0,
    compute: Compute | None = None,
) -> None:
    """Run both models once on a few rows, and raise what `representation_similarity` would raise on these.

    Raises:
        ValueError: as there; `NoLayersError` where by default no layer is left.
        TypeError: as there.
    """
    pair = LayerPair(*_load_pair(model_a, model_b, resolve_compute(compute)), layers)
    with isolate_rng(seed, "representation_similarity"):
        found = pair.activations(pair.on_device(example), None)
    unfit = {name: why for name, why in found.items() if isinstance(why, NoActivation)}
    if pair.by_name:
        for name, why in unfit.items():
            raise why.error(name)
    if len(unfit) == len(found):
        raise NoLayersError({**pair.left_out, **unfit})


class NoLayersError(ValueError):
    """No layer is left to compare, where none was asked for by name."""

    def __init__(self, left_out: Mapping[str, NoActivation]) -> None:
        shown = "; ".join(f"{name or 'the model itself'}: {why}" for name, why in list(left_out.items())[:3])
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        found = f"none of the models' layers can be compared ({shown}{more})"
        super().__init__(
            f"{found if left_out else 'the models have no layers to compare'}; "
            "name layers that run once in a forward pass, layers=[...]"
        )
