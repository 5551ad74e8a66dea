"""Theorem 1 and its exception: which mechanisms can be connected at all, and which cannot under any permutation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mechconn.theory._lemma import TOLERANCE, check_interpolating
from mechconn.theory._line import barrier_floor, join
from mechconn.theory._patterns import compute_agreements
from mechconn.theory._relu_network import ReluNet
from mechconn.theory._slabs import SlabSet
from mechconn.theory._statement import Assumption, Evidence, conclude

MARGIN = 0.01
"""Mean squared error that counts as an effect of an intervention; a constant 1/2 has 0.25."""


def check_theorem_1(
    a: ReluNet,
    b: ReluNet,
    data: SlabSet,
    attributes: tuple[int, int] = (0, 1),
    ts: int | Sequence[float] = 11,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Evidence:
    r"""Theorem 1: interpolating networks that read attributes of different complexity share patterns in no order.

    *Proved*, for one hidden layer and interpolation. On these data the argument is short. A unit that follows one
    attribute is on in some of its slabs, those on one side of a threshold. If it has the pattern of a unit that
    follows the other attribute, then, because every two slabs of one label occur together, the pattern depends on the
    label alone. A threshold separates the labels only where K = 0. So a unit with a threshold between the slabs of an
    attribute with K >= 1 has a partner in no network that follows another attribute; and a network that fits the
    labels by that attribute needs such a unit, since without one it is affine in slabs whose labels alternate. By
    Lemma 2 there is a barrier under every permutation: this last step needs positive output weights, for which
    `barrier_floor` even gives its size, also where the assumptions on single units fail. With both signs (≠) unequal
    patterns are still proved, the barrier is not.

    Numbers: the largest agreement over all permutations (exact, and below 1 as claimed); units of the network
    of the more complex attribute whose pattern no unit of the other has; the barrier before and after matching;
    the floor under it for all N! orders, 0 where output weights of both signs leave none.

    Args:
        a: t = 0, a network that reads `attributes[0]`.
        b: t = 1, one that reads `attributes[1]`.
        data: what both interpolate.
        attributes: what they read.
        ts: the grid.
        tolerance: as in `check_lemma_2`.
        seed: of the rows on which the other attributes are drawn anew; that of `SlabSet.relying_on` in training.

    Source: Lubana et al. 2023, Theorem 1; the argument for these data, and the floor, are ours.
    """
    x, y = data.x, data.y
    joined = join(a, b, x, y, ts)
    complexities = tuple(data.generator.complexities[data.generator.checked(i)] for i in attributes)
    missing = _find_missing_pairs(data, attributes)
    assumptions = (
        *check_interpolating(a, b, x, y, tolerance),
        *_check_following("A", a, data, attributes[0], tolerance, seed),
        *_check_following("B", b, data, attributes[1], tolerance, seed),
        Assumption("the attributes differ in complexity", complexities[0] != complexities[1], float(complexities[1])),
        Assumption("slabs of one label occur in all pairs", missing == 0, float(missing)),
    )
    floor = barrier_floor(a, b, x, y, ts) if a.positive else 0.0
    alone = compute_agreements(a, b, x) if complexities[0] > complexities[1] else compute_agreements(b, a, x)
    partnerless = int((alone.max(1).values < 1).sum())
    as_claimed = partnerless > 0 and joined.agreement < 1
    order = f"is at least {floor:.3g} in every order of the units" if a.positive else "has no proved floor here (≠)"
    outcome = (
        f"At best {100 * joined.agreement:.1f} % of the patterns agree; {partnerless} units have a pattern that the "
        f"other network lacks. The barrier is {joined.after.barrier.height:.3g} after matching, and {order}."
    )
    numbers = {
        "agreement": joined.agreement,
        "units without a partner": float(partnerless),
        "barrier before": joined.before.barrier.height,
        "barrier after": joined.after.barrier.height,
        "barrier floor": floor,
    }
    claim = "networks that read attributes of different complexity share activation patterns under no permutation"
    sentence = conclude(assumptions, as_claimed, outcome)
    return Evidence("Theorem 1", claim, "proved", assumptions, numbers, as_claimed, sentence)


def check_exception(
    a: ReluNet,
    b: ReluNet,
    data: SlabSet,
    attributes: tuple[int, int] = (0, 1),
    ts: int | Sequence[float] = 11,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Evidence:
    r"""The exception: dissimilar mechanisms of similar complexity *can* be linearly connected.

    *Shown by example*: where two attributes have the same label in the same rows (K = 0), or share their slab
    (`Slabs(coupled=True)`), readers of one and of the other can have equal patterns, and then connect (Corollary).
    It is not said that they always do: where K >= 1 and slabs are drawn independently, equal patterns are ruled out by
    the argument of Theorem 1 although the complexities are equal. So a missing barrier is no evidence of one mechanism.

    Numbers: the effect of drawing each attribute anew on each network's mean squared error, on the same rows; the
    agreement of patterns; the barrier after matching on the data, and on both counterfactual sets.

    Args:
        a: t = 0, a network that reads `attributes[0]`.
        b: t = 1, one that reads `attributes[1]`.
        data: what both interpolate.
        attributes: what they read.
        ts: the grid.
        tolerance: as in `check_lemma_2`.
        seed: of the interventions.

    Source: Lubana et al. 2023, section 3 and appendix F.
    """
    x, y = data.x, data.y
    joined, drawn = join(a, b, x, y, ts), [data.randomised(i, seed) for i in attributes]
    effects = [[net.loss(other.x, y) - net.loss(x, y) for other in drawn] for net in (a, b)]
    own, others = min(effects[0][0], effects[1][1]), max(abs(effects[0][1]), abs(effects[1][0]))
    complexities = tuple(data.generator.complexities[i] for i in attributes)
    assumptions = (
        *check_interpolating(a, b, x, y, tolerance),
        Assumption("each network is sensitive to its own attribute", own > MARGIN, own),
        Assumption("each network is invariant to the other's", others <= MARGIN, others),
        Assumption("the attributes have one complexity", complexities[0] == complexities[1], float(complexities[1])),
    )
    moved, height = b.permuted(joined.permutation), joined.after.barrier.height
    as_claimed = height <= tolerance
    elsewhere = [join(a, moved, other.x, y, ts).before.barrier.height for other in drawn]
    outcome = (
        f"Their mechanisms are {'dissimilar' if own > MARGIN >= others else 'not told apart'}, and the line after "
        f"matching has {'no' if as_claimed else 'a'} barrier on the data ({height:.3g})."
    )
    numbers = {
        "effect of A's attribute on A": effects[0][0],
        "effect of A's attribute on B": effects[1][0],
        "effect of B's attribute on A": effects[0][1],
        "effect of B's attribute on B": effects[1][1],
        "agreement": joined.agreement,
        "barrier after": height,
        "barrier with A's attribute drawn anew": elsewhere[0],
        "barrier with B's attribute drawn anew": elsewhere[1],
    }
    claim = "networks of dissimilar mechanisms of similar complexity can be linearly connected"
    sentence = conclude(assumptions, as_claimed, outcome, "This pair is no example of it, which refutes nothing.")
    return Evidence("Exception", claim, "shown by example", assumptions, numbers, as_claimed, sentence)


def _check_following(
    name: str, net: ReluNet, data: SlabSet, attribute: int, tolerance: float, seed: int
) -> tuple[Assumption, Assumption]:
    """That a network uses one attribute alone: in its outputs, and in the pattern of every unit."""
    rows, strays = data.relying_on(attribute, seed), _count_strays(net, data, attribute)
    loss = net.loss(rows.x, rows.y)
    return (
        Assumption(f"{name} interpolates also with other attributes drawn anew", loss <= tolerance, loss),
        Assumption(f"every unit of {name} follows attribute {attribute} alone", strays == 0, float(strays)),
    )


def _count_strays(net: ReluNet, data: SlabSet, attribute: int) -> int:
    """Units that some slabs of other attributes, or the noise of some row, turn on or off within one slab."""
    slabs, count = data.generator, len(data.generator.complexities)
    reach = torch.stack([slabs.places(i).max() for i in range(count)])
    reach[attribute] = 0.0  # places are centred on 0, so that the others move a unit by this much either way
    others = (net.weights[:count].abs() * reach[:, None]).sum(0)
    still = data.x[:, count:] @ net.weights[count:]
    low, high = still.min(0).values - others, still.max(0).values + others
    own = slabs.places(attribute)[:, None] * net.weights[attribute]
    return int(((own + low <= 0) & (own + high > 0)).any(0).sum())


def _find_missing_pairs(data: SlabSet, attributes: tuple[int, int]) -> int:
    """Pairs of slabs with one label in which no row lies."""
    labels = [data.generator.labels(i) for i in attributes]
    possible = {(i, j) for i, p in enumerate(labels[0].tolist()) for j, q in enumerate(labels[1].tolist()) if p == q}
    return len(possible - {(int(i), int(j)) for i, j in data.slabs[:, list(attributes)].tolist()})
