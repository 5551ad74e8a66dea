"""What cues, interventions and losses are held to, ours and a user's alike: one row for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import mechconn as mc
from mechconn import interventions as moves
from mechconn.core import as_data, copy_inputs
from mechconn.datasets import Cue, ImageSet, Planted, PlantedCue, TokenSet
from mechconn.interventions import (
    Background,
    BinColumn,
    Blur,
    Contrast,
    Flip,
    Frame,
    GradedIntervention,
    Grey,
    HighPass,
    Hue,
    Intervention,
    LowPass,
    Occlude,
    Patch,
    PatchShuffle,
    Resolution,
    SwapColumn,
    Texture,
)
from mechconn.losses import Loss, as_loss
from mechconn.paper import MarkCue
from raw_texts import read_texts
from texts import MARKERS, texts
from user_defined_data import Brighten, Margin, MaskTokens, Pinball, StripeCue

ROWS, IDS = 12, torch.arange(100, 112)
SOME = torch.tensor([7, 2, 11])
"""Rows to ask for by themselves."""


def images(side: int = 24, classes: int = 3) -> ImageSet:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (ROWS, 3, side, side), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(ROWS) % classes, tuple(map(str, range(classes))))


def tokens_alone() -> TokenSet:
    """Pairs without their strings."""
    return replace(read_texts(), raw=None)


def table() -> tuple[Tensor, Tensor]:
    """A column of numbers, and one of categories."""
    draw = torch.Generator().manual_seed(0)
    return torch.cat([torch.randn(ROWS, 1, generator=draw), torch.arange(ROWS)[:, None] * 1.0], 1), LABELS


def find_bright(x: Tensor) -> Tensor:
    """Masks of the pixels whose first channel is bright."""
    return x[:, 0] > 0


LABELS = torch.arange(ROWS) % 3
SEEN = images()
CUES: dict[str, tuple[Cue, Any]] = {
    "BoxCue": (mc.BoxCue(values=3), images()),
    "HueBoxCue": (mc.HueBoxCue(), images(28, classes=12)),
    "DominoesCue": (mc.DominoesCue(images(8)), images()),
    "PlantedCue": (PlantedCue(Planted()), Planted().sample(ROWS)),
    "TokenCue": (mc.TokenCue(MARKERS, special=(1, 2)), texts(ROWS)),
    "TokenCue, other markers": (mc.TokenCue(MARKERS, special=(1, 2), others=(90, 91, 92)), texts(ROWS)),
    "MarkCue": (MarkCue("hue", values=3), images()),
    "StripeCue, a user's": (StripeCue(), images()),
}

TABLE = as_data("a table", table())
INTERVENTIONS: dict[str, tuple[Intervention, Any]] = {
    "Rotate": (mc.Rotate(), images()),
    "Translate": (mc.Translate(2), images()),
    "ColourShift": (mc.ColourShift(), images()),
    "SwapColumn": (SwapColumn(columns=(0, 1)), TABLE),
    "SwapColumn, apart, within classes": (SwapColumn(columns=(0, 1), together=False, within="class"), TABLE),
    "BinColumn": (BinColumn(columns=0, bins=3), TABLE),
    "Patch": (Patch("random"), images()),
    "Frame": (Frame(), images()),
    "Occlude": (Occlude(), images()),
    "Grey": (Grey(), images()),
    "Hue": (Hue(), images()),
    "Contrast": (Contrast(), images()),
    "Blur": (Blur(), images()),
    "LowPass": (LowPass(), images()),
    "HighPass": (HighPass(), images()),
    "Resolution": (Resolution(), images()),
    "PatchShuffle": (PatchShuffle(5), images()),
    "Flip": (Flip(), images()),
    "Texture": (Texture(), SEEN),
    "Background": (Background(find_bright), SEEN),
    "Background, noise": (Background(find_bright, fill="noise"), SEEN),
    "Brighten, a user's": (Brighten(), images()),
    "MaskTokens, a user's": (MaskTokens(), texts(ROWS)),
    "WordShuffle": (moves.WordShuffle(), read_texts()),
    "WordShuffle, tokens": (moves.WordShuffle(), replace(texts(ROWS), special=(1, 2))),
    "DropWords": (moves.DropWords(), read_texts()),
    "DropWords, tokens": (moves.DropWords(), tokens_alone()),
    "Truncate": (moves.Truncate(keep="random"), read_texts()),
    "Truncate, tokens": (moves.Truncate(keep="random"), tokens_alone()),
    "InsertPhrase": (moves.InsertPhrase(), read_texts()),
    "InsertPhrase, tokens": (moves.InsertPhrase(level="tokens"), read_texts()),
    "RemovePhrase": (moves.RemovePhrase(), read_texts()),
    "RemovePhrase, tokens": (moves.RemovePhrase(level="tokens"), read_texts()),
    "SwapWords": (moves.SwapWords(words=(("film", "movie"), ("is", "was"))), read_texts()),
    "SwapWords, tokens": (moves.SwapWords(level="tokens"), read_texts()),
    "SwapNames": (moves.SwapNames(), read_texts()),
    "SwapPlaces": (moves.SwapPlaces(), read_texts()),
    "SwapPronouns": (moves.SwapPronouns(), read_texts()),
    "Negation": (moves.Negation(part="both"), read_texts()),
    "OnePart": (moves.OnePart(), read_texts()),
    "OnePart, tokens": (moves.OnePart(), tokens_alone()),
    "RemoveOverlap": (moves.RemoveOverlap(), read_texts()),
    "RemoveOverlap, tokens": (moves.RemoveOverlap(), tokens_alone()),
    "NoPunctuation": (moves.NoPunctuation(), read_texts()),
    "Lowercase": (moves.Lowercase(), read_texts()),
    "Uppercase": (moves.Uppercase(), read_texts()),
}


@dataclass(frozen=True)
class LossRow:
    """A loss with outputs and targets that it takes."""

    loss: Any
    outputs: Tensor
    targets: Tensor


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


LOSSES: dict[str, LossRow] = {
    "CrossEntropy": LossRow(mc.losses.CrossEntropy(label_smoothing=0.1), drawn(ROWS, 3), LABELS),
    "CrossEntropy, rows left out": LossRow(mc.losses.CrossEntropy(ignore_index=2), drawn(ROWS, 3), LABELS),
    "Binary": LossRow(mc.losses.binary, drawn(ROWS, 1), LABELS % 2),
    "Squared": LossRow(mc.losses.squared, drawn(ROWS, 1), drawn(ROWS).flip(0)),
    "Absolute": LossRow(mc.losses.absolute, drawn(ROWS, 2), drawn(ROWS, 2) + 1),
    "OverPositions": LossRow(
        mc.losses.OverPositions(ignore_index=255), drawn(ROWS, 3, 5), torch.arange(ROWS * 5).view(ROWS, 5) % 3
    ),
    "JoinedClasses": LossRow(mc.losses.JoinedClasses(((0,), (1, 2))), drawn(ROWS, 3), LABELS % 2),
    "Pinball, a user's": LossRow(Pinball(0.9), drawn(ROWS, 1), drawn(ROWS).flip(0)),
    "Margin, a user's": LossRow(Margin(), drawn(ROWS, 3), LABELS),
    "a user's function": LossRow(squares, drawn(ROWS, 1), drawn(ROWS).flip(0)),
}


# ---------------------------------------------------------------- what is asserted of each


def parts(x: Any) -> dict[str, Tensor]:
    return dict(x) if isinstance(x, Mapping) else {"x": x}


def assert_same(a: Any, b: Any) -> None:
    """Equal tensors, bit for bit, one or several by name."""
    a, b = parts(a), parts(b)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def assert_pure(function: Callable[..., Any], *arguments: Any, rows: Callable[[Any], Any] | None = None) -> Any:
    """The same values whenever it is asked, whatever the global generators say, and no argument written to.

    With `rows`, which takes some rows of an argument, also the same values for these rows alone.
    """
    found = []
    for start in (0, 1):
        given = [copy_inputs(argument) for argument in arguments]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start)
            state = torch.get_rng_state()
            found.append(copy_inputs(function(*given)))
            assert torch.equal(torch.get_rng_state(), state), "it draws from the global generator"
        for before, after in zip(arguments, given, strict=True):
            if isinstance(before, Tensor | Mapping):
                assert_same(before, after)
    assert_same(*found)
    if rows is not None:
        alone = function(*map(rows, arguments))
        assert_close(alone, rows(found[0]))
    return found[0]


def assert_close(a: Any, b: Any) -> None:
    """Equal but for rounding, which may depend on the number of rows."""
    a, b = parts(a), parts(b)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-6)


def take_some(argument: Any) -> Any:
    """The rows SOME of tensors that have rows; anything else as it is."""
    if isinstance(argument, Mapping):
        return {name: take_some(part) for name, part in argument.items()}
    return argument[SOME] if isinstance(argument, Tensor) and argument.dim() else argument


def assert_cue(cue: Cue, data: Any) -> None:
    """Values are pure functions of (row, seed), alike in type and shape, and drawn row by row onto copies."""
    x, labels = data.inputs(torch.arange(ROWS)), data.y
    agreeing = assert_pure(cue.agreeing, labels, IDS, 3, rows=take_some)
    random = assert_pure(cue.random, IDS, 3, rows=take_some)
    absent = assert_pure(cue.absent, ROWS)
    assert len({(values.dtype, values.shape) for values in (agreeing, random, absent)}) == 1
    assert len(agreeing) == ROWS
    assert not torch.equal(cue.random(IDS, 4), random), "another seed draws other values"
    for values in (agreeing, random, absent):
        assert_pure(cue.render, x, values, rows=take_some)
    shown, plain = parts(cue.render(x, agreeing)), parts(cue.render(x, absent))
    assert any(not torch.equal(shown[name], plain[name]) for name in shown), "the cue can be seen"
    cue.check_data("training", data)


def assert_intervention(intervention: Intervention, data: Any) -> None:
    """Strengths are pure functions of (row, seed), applied row by row to copies; labels and identities stay."""
    x = data.inputs(torch.arange(ROWS))
    prepared = intervention.prepare(data)
    values = assert_pure(prepared.draw, IDS, 3, rows=take_some)
    assert len(values) == ROWS and not torch.equal(prepared.draw(IDS, 4), values)
    if not prepared.comes_before_inputs:
        assert_pure(prepared.apply, x, values, rows=take_some)
    scenes = intervention(data, seed=3)
    assert torch.equal(scenes.y, data.y)
    assert_same(scenes.inputs(torch.arange(ROWS)), intervention(scenes, seed=3).inputs(torch.arange(ROWS)))
    assert_same(data.inputs(torch.arange(ROWS)), x)
    if isinstance(intervention, GradedIntervention):
        assert_graded(intervention, data)


def assert_graded(intervention: GradedIntervention, data: Any) -> None:
    """Strength 0 leaves every bit; 1 changes some row; each strength is a pure function of (row, seed)."""
    x, rows = data.inputs(torch.arange(ROWS)), torch.arange(ROWS)
    assert_same(intervention(data, 3, 0.0).inputs(rows), x)
    for strength in (0.3, 1.0):
        changed = intervention(data, 3, strength)
        assert_pure(changed.inputs, rows, rows=take_some)
    whole = intervention(data, 3, 1.0).inputs(rows)
    assert any(not torch.equal(part, parts(x)[name]) for name, part in parts(whole).items())


def assert_loss(given: Any, outputs: Tensor, targets: Tensor) -> None:
    """A finite value for each row, a function of this row alone that can be descended; classes of each row."""
    loss: Loss = as_loss(given)
    values = assert_pure(loss, outputs, targets, rows=take_some)
    assert values.shape == (ROWS,) and bool(values.isfinite().all())
    given_outputs = outputs.clone().requires_grad_()
    loss(given_outputs, targets).sum().backward()
    assert given_outputs.grad is not None and bool(given_outputs.grad.isfinite().all())
    assert bool((given_outputs.grad != 0).any())
    found, counted = loss.classify(outputs, targets), loss.counted(targets)
    if found is not None:
        assert found.predicted.shape == found.labels.shape and len(found.labels) == ROWS
        assert found.predicted.dtype == found.labels.dtype == torch.int64
    assert counted is None or (counted.shape == (ROWS,) and counted.dtype == torch.bool)
