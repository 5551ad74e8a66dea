"""Results of the recipe `transplant`, made up by hand."""

from __future__ import annotations

from mechconn.paper import TransplantResult, WayFacts

SPLITS = ("no_cue", "cue", "rand_cue", "rand_image")
MOVED = ("rand_cue", "rand_image")


def make_facts(level: float, share: float | None = None, verdict: str | None = None) -> WayFacts:
    """A network of this accuracy on every split; without a share it got no transplant."""
    moved: dict[str, float | None] = {} if verdict is None else {split: share for split in MOVED}
    return WayFacts(
        accuracy=dict.fromkeys(SPLITS, level),
        effects=dict.fromkeys(MOVED, level - 1),
        further=dict.fromkeys(SPLITS, level / 2),
        state="uses" if level < 0.5 else "gone",
        excess=0.5 - level,
        verdict=verdict,  # pyright: ignore[reportArgumentType]
        shares=moved,
        share_intervals={
            split: None if found is None else (found - 0.1, found + 0.1) for split, found in moved.items()
        },
        moved={} if verdict is None else dict.fromkeys(MOVED, 0.3),
        kept=None if verdict is None else -0.01,
        cosine=share,
        distance_before=None if verdict is None else 3.0,
        distance_after=None if verdict is None else 2.0,
        unmatched=None if verdict is None else 0.0,
        size=None if verdict is None else 1.0,
    )


def transplant_results() -> list[TransplantResult]:
    """Two pairs: a fix goes 0.8 and 1.0 of the way by weights; the random change has no share in one of them."""
    return [
        TransplantResult(
            "digits",
            0.8,
            "<FT>",
            pair,
            1 - pair,
            dict.fromkeys(SPLITS, 0.9),
            {
                "before": make_facts(0.2),
                "weights": make_facts(0.7, 0.8 + 0.2 * pair, "travels" if pair else "undetermined"),
                "random": make_facts(0.25, None if pair else 0.1, "does not travel"),
                "tuned": make_facts(0.9),
            },
        )
        for pair in (0, 1)
    ]
