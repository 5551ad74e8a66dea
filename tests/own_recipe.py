"""A recipe as a user writes it, in a file of the user's own: no images, no cue, and numbers over all cells."""

OWN_RECIPE = '''
from dataclasses import dataclass

from mechconn.core import Config
from mechconn.paper import Claim, Numbers, Recipe
from mechconn.store import StepOutput


class Widths(Config):
    seeds: tuple[int, ...] = (0, 1)
    power: float = 2.0


@dataclass(frozen=True)
class WidthCell:
    seed: int

    @property
    def name(self):
        return f"width 8, seed {self.seed}"


class Powers(Recipe):
    """A number to a power for every seed."""

    name = "powers"
    about = "powers of seeds"
    title = "Powers of seeds"
    question = "How large do they grow?"

    def settings(self, scale, images):
        return Widths(seeds=(0, 1) if scale == "smoke" else (0, 1, 2))

    def cells(self, settings):
        return [WidthCell(seed) for seed in settings.seeds]

    def run_cell(self, context, settings, cell, root):
        config = {"power": settings.power, "seed": cell.seed}
        made = context.step("power", cell.name, config, {}, lambda *_: StepOutput({"value": cell.seed**settings.power}))
        return Numbers({"width": 8, **made.numbers})

    def summarise(self, settings, results):
        return Numbers({"mean": sum(found["value"] for found in results) / len(results)})

    def write_findings(self, record):
        return [f"The mean is {record.summary['mean']:g}."]

    def judge_claims(self, record):
        return [Claim("Powers of whole numbers are whole", "every cell", f"mean {record.summary['mean']:g}", "holds")]
'''
