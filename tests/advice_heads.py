"""What is advised where a head, or what it receives, does not fit the method; see `test_advice_tuning`."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from advice import (
    CBFT,
    CUED,
    LLRT,
    NAIVE,
    Advice,
    Applied,
    OnceBefore,
    Tied,
    Tokens,
    Twin,
    X,
    Y,
    frozen,
    parametrised,
    squared,
    thawed,
    tune,
    untied,
    words,
)
from zoo import CLASSES, build, images, rows


def convolution() -> nn.Module:
    """No linear layer."""
    return nn.Sequential(nn.Conv2d(3, CLASSES, 6), nn.Flatten())


HEADS: dict[str, Advice] = {
    "FEATURE_SIZES": Advice(
        lambda: tune(build(Tokens), CBFT, clean=words(5), cued=words(7)),
        "give both batches one shape (texts: pad to one length), or set invariance=False",
        (
            lambda: tune(build(Tokens), CBFT, clean=words(5, pad=2), cued=words(7)),
            lambda: tune(build(Tokens), replace(CBFT, invariance=False), clean=words(5), cued=words(7)),
        ),
    ),
    "HEAD_FROZEN": Advice(
        lambda: tune(frozen(but="0.weight"), LLRT),
        "call requires_grad_() on them",
        (lambda: tune(thawed("2"), LLRT),),
    ),
    "HEAD_NOT_FOUND": Advice(
        lambda: tune(build(Twin), CBFT, cued=CUED),
        "(linear layers of this model: left, right, unused), or use a method that trains the whole network (CBFT with "
        "invariance=False)",
        (
            lambda: tune(build(Twin), CBFT, cued=CUED, head="left"),
            lambda: tune(build(Twin), CBFT, cued=CUED, head="right"),
            lambda: tune(build(Twin), replace(CBFT, invariance=False), cued=CUED),
            lambda: tune(build(Twin), NAIVE),
        ),
    ),
    "HEAD_PARAMETRISED": Advice(
        lambda: tune(parametrised(removed=False), LLRT),
        "call torch.nn.utils.parametrize.remove_parametrizations on it first",
        (lambda: tune(parametrised(removed=True), LLRT),),
    ),
    "HEAD_SHARED": Advice(
        lambda: tune(build(lambda: Tied(tied=True)), LLRT, clean=rows(24)),
        "untie them first",
        (lambda: tune(untied(), LLRT, clean=rows(24)),),
    ),
    "HEAD_TWICE": Advice(
        lambda: tune(build(lambda: Applied(times=2)), CBFT, cued=CUED),
        "name another layer with head=, or set invariance=False",
        (
            lambda: tune(build(lambda: Applied(times=2)), replace(CBFT, invariance=False), cued=CUED),
            lambda: tune(build(OnceBefore), CBFT, cued=CUED, head="first"),
        ),
    ),
    "HEAD_UNKNOWN": Advice(
        lambda: tune(method=LLRT, head="fc"), "its linear layers are: 0, 2", (lambda: tune(method=LLRT, head="2"),)
    ),
    "HEAD_UNUSED": Advice(
        lambda: tune(build(Twin), CBFT, cued=CUED, head="unused"),
        "name the layer that the output comes from with head=",
        (lambda: tune(build(Twin), CBFT, cued=CUED, head="left"),),
    ),
    "INVARIANCE_CLASSES": Advice(
        lambda: tune(method=CBFT, clean=(X, Y.double()), cued=(X, Y.double()), loss=squared),
        "set invariance=False for other tasks",
        (
            lambda: tune(
                method=replace(CBFT, invariance=False), clean=(X, Y.double()), cued=(X, Y.double()), loss=squared
            ),
        ),
    ),
    "NOT_LAST": Advice(
        lambda: tune(build(lambda: Applied()), LLRT),
        "name the last layer with head=, or use a method that trains the whole network",
        (
            lambda: tune(build(lambda: Applied()), NAIVE),
            lambda: tune(build(lambda: Applied(last=True)), LLRT, head="head"),
        ),
    ),
    "a head where there is none": Advice(
        lambda: tune(build(convolution), CBFT, clean=images(12), cued=images(12, 1)),
        "(no linear layer leads to the output); use a method that trains the whole network (CBFT with "
        "invariance=False)",
        (
            lambda: tune(build(convolution), NAIVE, clean=images(12)),
            lambda: tune(build(convolution), replace(CBFT, invariance=False), clean=images(12), cued=images(12, 1)),
        ),
    ),
}
