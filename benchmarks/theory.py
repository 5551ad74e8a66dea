"""The theory on one layer: figure 13 over widths and seeds, each statement on a pair of its own, and their pictures.

python benchmarks/theory.py [--scale smoke|small|paper] [--pictures docs]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from mechconn import theory
from mechconn.paper import Fig13Summary, ReluResult, SeedMean
from mechconn.paper._fig13 import FIG13_SCALES, PAIRS, run_fig13, summarise_fig13

COLOURS = {
    "same_attribute": "#0072B2",
    "different_attributes": "#D55E00",
    "both_attributes": "#009E73",
    "same_complex_attribute": "#CC79A7",
}
LABELS = {
    "same_attribute": "K = 0 and K = 0",
    "different_attributes": "K = 0 and K = 4",
    "both_attributes": "K = 0 and both",
    "same_complex_attribute": "K = 4 and K = 4",
}
MEASURES = ("barrier_before", "barrier_after", "pattern_agreement")


def said(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def with_interval(found: SeedMean, digits: int = 5) -> str:
    """A mean with its interval over seeds."""
    assert found.interval is not None
    low, high = found.interval
    return f"{found.mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def figure_13(scale: Any) -> tuple[list[ReluResult], Fig13Summary]:
    """Run it and print a row for each pair and width, and what the networks rely on."""
    started, config = time.perf_counter(), FIG13_SCALES[scale]
    cells = run_fig13(config)
    summary = summarise_fig13(config, cells)
    said(f"scale {scale}: {len(config.seeds)} seeds, {time.perf_counter() - started:.0f} seconds")
    said("| pair | units | barrier before | barrier after | pattern agreement |")
    said("|---|---|---|---|---|")
    for pair in PAIRS:
        for width, found in getattr(summary, pair).by_width.items():
            said(f"| {LABELS[pair]} | {width} | {' | '.join(with_interval(getattr(found, m)) for m in MEASURES)} |")
    widest = [cell.networks for cell in cells if cell.width == max(config.widths)]
    for name in widest[0]:
        effects = [sum(n[name].effects[i] for n in widest) / len(widest) for i in (0, 1)]
        loss = max(n[name].loss_on_data for n in widest)
        said(
            f"{name}: effects of drawing K = 0, K = 4 anew {effects[0]:.3f}, {effects[1]:.3f}; largest loss {loss:.1e}"
        )
    return cells, summary


def statements() -> None:
    """Each statement on networks in closed form, and Theorem 1's floor on trained ones."""
    ramp_and_valley = theory.Slabs((0, 1), (2.0, 1.0))
    data = ramp_and_valley.sample(96)
    a, b = (theory.spline_network(ramp_and_valley, i, 4) for i in (0, 1))
    said(str(theory.check_lemma_2(a, b, data.x, data.y)))
    said(str(theory.check_theorem_1(a, b, data)))
    nets = []
    for attribute in (0, 1):
        rows = data.relying_on(attribute)
        nets.append(theory.interpolate(theory.fresh_network(5, 16, seed=attribute), rows.x, rows.y).net)
    said(f"trained, positive weights, 16 units: {theory.check_theorem_1(nets[0], nets[1], data)}")
    twins = theory.Slabs((0, 0), (2.0, 2.0))
    data, order = twins.sample(96), torch.tensor([3, 2, 1, 0])
    a, b = theory.spline_network(twins, 0, 4), theory.spline_network(twins, 1, 4).permuted(order)
    said(str(theory.check_corollary(a, b, data.x, data.y)))
    said(str(theory.check_exception(a, b, data)))
    for coupled in (True, False):
        fours = theory.Slabs((4, 4), (1.0, 1.0), coupled=coupled)
        a, b = (theory.spline_network(fours, i, 12, signed=True) for i in (0, 1))
        said(f"coupled={coupled}: {theory.check_exception(a, b, fours.sample(96))}")


def reader(data: theory.SlabSet, attribute: int, seed: int) -> theory.ReluNet:
    """A signed network of 64 units that was trained to read one attribute."""
    rows, fresh = data.relying_on(attribute), theory.fresh_network(data.x.shape[1], 64, signed=True, seed=seed)
    return theory.interpolate(fresh, rows.x, rows.y).net


def draw_patterns(file: Path) -> None:
    """The data, what two trained networks answer along each attribute, and their patterns side by side."""
    slabs = theory.Slabs()
    data = slabs.sample(96, 0)
    nets = [reader(data, attribute, seed) for attribute, seed in ((0, 0), (0, 1), (1, 2))]
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.25])
    top, bottom = parts
    panels = top.subplots(1, 3)
    for label, colour in ((0, "#0072B2"), (1, "#E69F00")):
        chosen = data.x[data.y == label]
        shift = 0.3 * chosen[:, 2:4]  # the noise, so that points do not hide each other
        panels[0].scatter(chosen[:, 0] + 0.4 * shift[:, 0], chosen[:, 1] + 0.4 * shift[:, 1], s=9, color=colour, label=f"label {label}")  # fmt: skip  # noqa: E501
    panels[0].set(xlabel="attribute K = 0", ylabel="attribute K = 4", title="the data (points spread a little)")
    panels[0].legend(frameon=False, fontsize=8, loc="center")
    for attribute, axes in enumerate(panels[1:]):
        values = torch.linspace(-2.7, 2.7, 200, dtype=torch.float64)[:, None] * (0.5 if attribute == 0 else 1.0)
        x = torch.zeros(200, slabs.features, dtype=torch.float64)
        x[:, attribute], x[:, -1] = values[:, 0], 1.0
        # The other attribute at a place with label 1, where the reader of it answers 1 all along.
        x[:, 1 - attribute] = slabs.places(1 - attribute)[-1]
        for net, name, colour in ((nets[0], "reads K = 0", "#0072B2"), (nets[2], "reads K = 4", "#D55E00")):
            axes.plot(values, net(x), color=colour, label=name)
        axes.plot(slabs.places(attribute), slabs.labels(attribute), "k.", markersize=5)
        axes.set(xlabel=f"attribute K = {slabs.complexities[attribute]}", ylabel="output", ylim=(-0.5, 1.6))
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    order = torch.argsort(data.slabs[:, 0] * 10 + data.slabs[:, 1])
    shown = [("A reads K = 0", nets[0], None)]
    shown += [(f"{name}, moved onto A", net, theory.match_units(nets[0], net, data.x)) for name, net in (("another reads K = 0", nets[1]), ("B reads K = 4", nets[2]))]  # fmt: skip  # noqa: E501
    base = theory.activation_patterns(nets[0], data.x)[order]
    columns = torch.argsort(base.double().T @ torch.arange(96, dtype=torch.float64))
    columns = torch.cat([columns[columns < 32], columns[columns >= 32]])
    for axes, (name, net, moved) in zip(bottom.subplots(1, 3, sharey=True), shown, strict=True):
        on = theory.activation_patterns(net if moved is None else net.permuted(moved), data.x)[order][:, columns]
        picture = torch.ones(96, 64, 3)
        picture[on] = torch.tensor([0.25, 0.25, 0.25])
        if moved is not None:
            wrong = on != base[:, columns]
            picture[wrong] = torch.tensor([0.84, 0.37, 0.0])
            name += f"\n{100 * float((~wrong).double().mean()):.0f} % of the entries agree"
        axes.imshow(picture, aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("units (32 added, then 32 taken away)")
    bottom.axes[0].set_ylabel("rows, by slab")
    figure.savefig(file, dpi=110)


def draw_figure_13(cells: list[ReluResult], summary: Fig13Summary, file: Path) -> None:
    """The lines at the largest width, and barrier and agreement by width with intervals over seeds."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    lines, barriers, agreement = figure.subplots(1, 3)
    largest = max(cell.width for cell in cells)
    widest = [cell for cell in cells if cell.width == largest]
    for pair in list(PAIRS)[:3]:
        for style, which in ((":", "loss_before"), ("-", "loss_after")):
            mean = torch.tensor([getattr(cell.pairs[pair], which) for cell in widest]).mean(0)
            lines.plot(torch.linspace(0, 1, len(mean)), mean, style, color=COLOURS[pair])
    lines.set(xlabel="t, from the reader of K = 0 (0) to the other (1)", ylabel="mean squared error",
              title=f"{largest} units: before (dotted) and after")  # fmt: skip
    for number, pair in enumerate(PAIRS):
        by_width = getattr(summary, pair).by_width
        widths = list(by_width)
        places = [width * 1.05 ** (number - 1.5) for width in widths]
        for axes, measure in ((barriers, "barrier_after"), (agreement, "pattern_agreement")):
            found = [getattr(by_width[width], measure) for width in widths]
            means = [f.mean for f in found]
            low, high = ([abs(f.interval[i] - f.mean) for f in found] for i in (0, 1))
            low = [min(gap, 0.95 * mean) for gap, mean in zip(low, means, strict=True)]  # a log axis has no 0
            axes.errorbar(places, means, yerr=[low, high], color=COLOURS[pair], marker="o", markersize=4, label=LABELS[pair])  # fmt: skip  # noqa: E501
            axes.set(xlabel="units", xscale="log")
            axes.set_xticks(widths, [str(width) for width in widths])
            axes.minorticks_off()
    barriers.set(yscale="log", ylim=(1e-5, 1), title="barrier after matching")
    agreement.set(title="share of pattern entries that agree")
    barriers.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
    for axes in (lines, barriers, agreement):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=list(FIG13_SCALES), default="small")
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    cells, summary = figure_13(asked.scale)
    statements()
    if asked.pictures is not None:
        draw_patterns(asked.pictures / "theory_patterns.png")
        draw_figure_13(cells, summary, asked.pictures / "theory_fig13.png")


if __name__ == "__main__":
    main()
