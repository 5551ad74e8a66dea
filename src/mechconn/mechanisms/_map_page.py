"""What a map of models says and shows: sentences, matrices, pictures, and a line for each model."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mechconn.connectivity import describe_norm, join_words
from mechconn.mechanisms._invariance_page import Scale, choose_effect_scale, make_effect_cell, make_level_cell
from mechconn.mechanisms._map_lines import EACH
from mechconn.plotting import Cell, Drawing, Section, Table, format_interval, print_table

if TYPE_CHECKING:
    from mechconn.mechanisms._map_pairs import MapPair
    from mechconn.mechanisms._map_result import MechanismMap
    from mechconn.mechanisms._map_tree import Groups, Matrix

FEW = 12
"""Up to so many models matrices and pairs are shown in full, and a section for each model."""
LISTED_GROUPS, LISTED_NAMES, LISTED_PATHS = 8, 6, 60
JOINTLY = "hold together with 95 % (Bonferroni)"
STYLES = {"differ": "sensitive", "agree": "invariant", "connected": "holds", "not connected": "does-not-hold"}


def write_map_title(found: MechanismMap) -> str:
    """How many models, groups by mechanism and basins."""
    parts = [_count_groups(found)]
    if found.basins:
        least = "at most " if _is_partial(found) and len(found.basins) > 1 else ""
        parts.append(f"{least}{_count(len(found.basins), 'basin')}")
    return f"{len(found.names)} models: {', '.join(parts)}"


def _count_groups(found: MechanismMap) -> str:
    """How many groups there are, where the verdicts on pairs bear it out; else how many pairs differ."""
    count, groups = Counter(pair.verdict for pair in found.pairs), len(found.groups)
    if not found.pairs or (count["differ"] if groups > 1 else not count["differ"] + count["undetermined"]):
        return f"{_count(groups, 'group')} by mechanism"
    if not count["differ"]:
        return "no pair differs in mechanism for certain"
    return f"{count['differ']:,} of {_count(len(found.pairs), 'pair')} differ in mechanism for certain"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _is_partial(found: MechanismMap) -> bool:
    return any(math.isnan(value) for row in found.barrier for value in row)


def list_map_findings(found: MechanismMap) -> Iterator[str]:
    """Verdicts on the pairs, groups, basins, and pairs that are joined and differ."""
    scale = _choose_scale(found)
    margin = scale.write(found.margin, "") + f" {scale.unit}"
    if found.pairs:
        count = Counter(pair.verdict for pair in found.pairs)
        yield (
            f"Of {_count(len(found.pairs), 'pair')} of models {count['differ']:,} differ in the effect of an "
            f"intervention by more than {margin}, {count['agree']:,} agree within that on all of them, and "
            f"{count['undetermined']:,} are undetermined. All of these verdicts {JOINTLY}."
        )
    how = f"average linkage of the estimates, cut at {margin}"
    yield f"By mechanism there {_say_groups(found.groups, 'group', how)}."
    yield from _list_basin_findings(found)
    joined = [pair for pair in found.pairs if pair.path == "connected" and pair.verdict == "differ"]
    if joined:
        listed = [f"{pair.a} and {pair.b}" for pair in joined[:LISTED_NAMES]]
        more = f" and {len(joined) - LISTED_NAMES:,} more" if len(joined) > LISTED_NAMES else ""
        yield f"Joined by a path without a barrier, and different in mechanism: {'; '.join(listed)}{more}."


def _list_basin_findings(found: MechanismMap) -> Iterator[str]:
    if not found.basins:
        yield "No path between the models was walked, so nothing is said of basins."
        return
    unit = found.invariance[found.names[0]].loss_unit
    how = f"single linkage of paths with a barrier of at most {found.tolerance:g} {unit}"
    aligned = ", after alignment" if found.aligned else ""
    walked = [pair for pair in found.pairs if pair.path is not None]
    if _is_partial(found):
        several = len(found.basins) > 1
        there = "there are at most" if several else "there is"
        yield (
            f"{len(walked):,} of {len(found.pairs):,} straight paths were walked{aligned}: by these {there} "
            f"{_list_groups(found.basins, 'basin', how)}."
            f"{' Paths that were not walked may join more of them.' if several else ''}"
        )
    else:
        yield f"On straight paths{aligned} there {_say_groups(found.basins, 'basin', how)}."
    if walked and found.basin_range[0] != found.basin_range[1]:
        least, most = found.basin_range
        yield f"The intervals of the barriers, which {JOINTLY}, leave from {least:,} to {most:,} basins."


def _say_groups(groups: Groups, what: str, how: str) -> str:
    return f"{'is' if len(groups) == 1 else 'are'} {_list_groups(groups, what, how)}"


def _list_groups(groups: Groups, what: str, how: str) -> str:
    """How many groups there are, and the models of the largest."""
    largest = sorted(groups, key=len, reverse=True)
    several = [group for group in largest if len(group) > 1][:LISTED_GROUPS]
    left = groups if len(groups) <= LISTED_GROUPS else several
    listed = "; ".join(_shorten(group) for group in left)
    more = len(groups) - len(left)
    listed += (f"; and {more:,} more" if listed else f"{more:,} models by themselves") if more else ""
    return f"{_count(len(groups), what)} ({how}): {listed}"


def _shorten(names: Sequence[str]) -> str:
    if len(names) <= LISTED_NAMES:
        return join_words(names)
    return f"{', '.join(names[:LISTED_NAMES])} and {len(names) - LISTED_NAMES} more"


def _choose_scale(found: MechanismMap) -> Scale:
    return choose_effect_scale(found.invariance[found.names[0]])


def print_map(found: MechanismMap) -> Iterator[str]:
    """Both matrices of few models; what was found; notes."""
    yield write_map_title(found)
    if len(found.names) <= FEW:
        for what, matrix in _list_matrices(found).items():
            yield f"{what} between {len(found.names)} models"
            yield from print_table(_tabulate(found.names, matrix))
    yield from (f"- {sentence}" for sentence in found.findings)
    yield from (f"  note: {note}" for note in found.notes)


def _list_matrices(found: MechanismMap) -> dict[str, Matrix]:
    barriers = {"barrier in loss": found.barrier} if found.basins else {}
    return {"mechanistic distance": found.distance, **barriers}


def _tabulate(names: Sequence[str], matrix: Matrix) -> Table:
    rows = [
        (name, *("" if math.isnan(value) else f"{value:.3f}" for value in row))
        for name, row in zip(names, matrix, strict=True)
    ]
    return Table(("", *names), tuple(rows))


# ---------------------------------------------------------------- the page


def list_map_sections(found: MechanismMap) -> Iterator[Section]:
    """Distances, barriers, every pair of few models, what each model relies on."""
    yield _make_distance_section(found)
    if found.basins:
        yield _make_barrier_section(found)
    if len(found.names) <= FEW and found.pairs:
        yield Section("Every pair", tables=(_tabulate_pairs(found, found.pairs),), note=_explain_pairs(found))
    yield _make_reliance_section(found)
    if len(found.names) <= FEW:
        for name, measured in found.invariance.items():
            for section in measured.sections():
                yield replace(section, title=f"{name}: {section.title}", folded=True)


def _make_distance_section(found: MechanismMap) -> Section:
    few, where = len(found.names) <= FEW, found.embedding
    held = "the table below holds it" if few else "the file below holds it"
    figures = [Drawing(lambda: found.plot("distance"), f"Mechanistic distance, as a heat map; {held}.")]
    if not few:
        caption = "Names in the colour of their group; grey: alone."
        figures.append(Drawing(lambda: found.plot("tree"), "The tree of the mechanistic distance.", caption))
    if len(found.names) > 2:
        caption = (
            "Classical multidimensional scaling of the mechanistic distance: the plane holds "
            f"{100 * where.explained:.0f} % of it (two eigenvalues of all, in magnitude), stress {where.stress:.2f}."
        )
        figures.append(Drawing(lambda: found.plot("embedding"), "Models by mechanistic distance, in a plane.", caption))
    matrices = {"distances.csv": _write_matrix(found.names, found.distance)}
    return Section(
        "Mechanistic distance",
        text="The largest difference of the effects of one intervention on two models.",
        figures=tuple(figures),
        tables=(_tabulate(found.names, found.distance),) if few else (),
        note=" ".join([*([] if few else [_explain_pairs(found)]), *([] if found.basins else _list_notes(found))]),
        downloads={"pairs.csv": _write_rows(found.rows()), **matrices},
    )


def _make_barrier_section(found: MechanismMap) -> Section:
    few, walked = len(found.names) <= FEW, [pair for pair in found.pairs if pair.path is not None]
    aligned = _describe_alignment(found)
    points = f", {len(found.ts)} points each" if found.ts else ""
    held = "the table below holds it" if few else "the file above holds it"
    figures = [Drawing(lambda: found.plot("barrier"), f"Barrier in loss, as a heat map; {held}.")]
    shown = few and not _is_partial(found)
    listed = () if shown or len(walked) > LISTED_PATHS or few else (_tabulate_pairs(found, walked),)
    return Section(
        "Barrier in loss",
        text=f"Along straight paths{points}. {aligned}{describe_norm(found.norm)}",
        figures=tuple(figures) if "barrier" in found.trees else (),
        tables=(_tabulate(found.names, found.barrier),) if few else listed,
        note=" ".join(_list_notes(found)),
    )


def _list_notes(found: MechanismMap) -> list[str]:
    return [f"{note}." for note in found.notes]


def _describe_alignment(found: MechanismMap) -> str:
    """What was moved before the paths were walked."""
    if not found.aligned:
        return "No symmetry was removed."
    onto, error = found.alignment.get("onto", EACH), found.alignment.get("cycle_error")
    cycles = "" if error is None else f" Around a cycle of them a model ends {error:.2g} of its norm from where it was"
    beside = found.alignment.get("pairwise_cycle_error")
    cycles += "" if not cycles else "." if beside is None else f"; by maps found pair by pair, {beside:.2g}."
    if onto == EACH:
        return "One model of each pair was moved onto the other."
    if onto is None:
        return f"All models were moved into one order of units ({found.alignment['method']}).{cycles}"
    return f"Every model was moved onto {onto} ({found.alignment['method']}).{cycles}"


def _tabulate_pairs(found: MechanismMap, pairs: Sequence[MapPair]) -> Table:
    """A row for each pair: distance, verdict, and the path where it was walked."""
    scale = _choose_scale(found)
    walked = any(pair.path is not None for pair in pairs)
    columns = ("pair", f"distance ({scale.unit})", "verdict", "farthest on", *(("barrier", "path") if walked else ()))
    return Table(columns, tuple(tuple(_list_cells(pair, scale, walked)) for pair in pairs), sortable=True)


def _list_cells(pair: MapPair, scale: Scale, walked: bool) -> Iterator[Cell]:
    yield Cell(f"{pair.a} and {pair.b}")
    amount = scale.write(pair.distance, "")
    yield Cell(amount, scale.write_interval(pair.distance_interval, ""), key=f"{pair.distance:.6g}")
    yield Cell(pair.verdict, style=STYLES.get(pair.verdict, ""))
    yield Cell(pair.farthest)
    if walked and pair.barrier is not None:
        yield Cell(f"{pair.barrier:.3f}", format_interval(pair.barrier_interval, form=".3f"), key=f"{pair.barrier:.6g}")
        yield Cell(pair.path or "", style=STYLES.get(pair.path or "", ""))
    elif walked:
        yield from (Cell(""), Cell("not walked"))


def _explain_pairs(found: MechanismMap) -> str:
    scale = _choose_scale(found)
    margin = f"{scale.write(found.margin, '')} {scale.unit}"
    return (
        f"Intervals of the distances {JOINTLY}, over pairs and interventions. Two models differ where the whole "
        f"interval lies above {margin}, agree where it lies within, and else are undetermined. A path is connected "
        f"where the whole interval of its barrier is at most {found.tolerance:g}; the intervals of all paths {JOINTLY}."
        if found.pairs
        else ""
    )


def _make_reliance_section(found: MechanismMap) -> Section:
    """A line for each model, in the order of the tree: how good it is, and every effect with its verdict."""
    scale, first = _choose_scale(found), found.invariance[found.names[0]]
    order = found.trees["distance"].order
    groups = {name: number for number, group in enumerate(found.groups, start=1) for name in group}
    basins = {name: number for number, group in enumerate(found.basins, start=1) for name in group}
    columns = ("model", "group", *(("basin",) if basins else ()), first.reference, *first)
    rows = [
        (
            name,
            str(groups[name]),
            *((str(basins[name]),) if basins else ()),
            make_level_cell(found.invariance[name], first.reference),
            *(make_effect_cell(found.invariance[name][split], scale) for split in first),
        )
        for name in order
    ]
    what = "Accuracy" if first.accuracy else "Loss"
    note = (
        f"{what} on {first.reference}; on the other splits the effect in {scale.unit} with its 95 % interval, and the "
        "verdict, joint over the interventions of one model. Order: that of the tree of the distance."
    )
    return Section("What each model relies on", tables=(Table(columns, tuple(rows), sortable=True),), note=note)


def _write_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records of equal keys as text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_matrix(names: Sequence[str], matrix: Matrix) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("", *names))
    writer.writerows((name, *row) for name, row in zip(names, matrix, strict=True))
    return text.getvalue()
