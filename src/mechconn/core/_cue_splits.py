"""The four splits of a task with a cue: their names, and what they mean."""

from __future__ import annotations

NO_CUE, CUE, RAND_CUE, RAND_IMAGE = "no_cue", "cue", "rand_cue", "rand_image"

SPLITS = {
    NO_CUE: ("NC", "no cue"),
    CUE: ("C", "cue that agrees with the label"),
    RAND_CUE: ("RC", "cue drawn at random"),
    RAND_IMAGE: ("RI", "random image under the label's cue"),
}
"""The four splits of a cue task: short name and meaning."""
