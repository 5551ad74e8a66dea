"""What results of cells with a cue show: accuracies, verdicts, barriers and figures, over all cells that are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mechconn.connectivity import describe_shifts
from mechconn.core import SPLITS
from mechconn.losses import NATS
from mechconn.mechanisms import Invariance, choose_effect_scale, list_relearning_sections, make_effect_cell
from mechconn.paper._published import SOURCE
from mechconn.paper._run_cards import PATHS, RELIANCE
from mechconn.paper._run_figures import (
    draw_accuracies,
    draw_accuracy_figure,
    draw_histories_figure,
    draw_paths_figure,
    draw_samples_figure,
)
from mechconn.paper._run_tables import (
    CellPlace,
    SeedMean,
    ValueTable,
    average_curves,
    average_shifts,
    combine_histories,
    combine_models,
    combine_relearned,
    group_paths,
    list_saved_ends,
    sort_splits,
    tabulate_accuracies,
    tabulate_barriers,
)
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import Cell, Drawing, Section, Table, format_interval

if TYPE_CHECKING:
    from mechconn.paper._cue_result import CueResult
    from mechconn.paper._recipe import Recipe
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True)
class PublishedAccuracy:
    """Published accuracies of one model.

    Attributes:
        dataset, proportion, clean_samples, model: of which number of a run; clean_samples None is all.
        accuracy: split -> accuracy in [0, 1].
    """

    dataset: str
    proportion: float
    clean_samples: int | None
    model: str
    accuracy: Mapping[str, float]


def list_published(
    recipe: Recipe, results: Sequence[CueResult], kinds: Mapping[str, str]
) -> Iterator[PublishedAccuracy]:
    """What a recipe finds published of the models in these results; `kinds` says what each dataset is."""
    for place, models in tabulate_accuracies(results).items():
        for name in models:
            found = recipe.find_published_accuracy(kinds.get(place.dataset, place.dataset), *place[1:], name)
            if found:
                yield PublishedAccuracy(*place, name, dict(found))


@dataclass(frozen=True)
class Published:
    """Published accuracies to show beside ours.

    Attributes:
        accuracies: those that are known.
        kinds: dataset -> what it is, whatever it is called.
        by_samples: whether figures are over the number of clean samples, where there are several.
        of_paper: whether they are the paper's, of which those for CIFAR-10 stand beside numbers on other data; else
            they are those of a user's recipe, for the data of the place.
    """

    accuracies: Sequence[PublishedAccuracy]
    kinds: Mapping[str, str]
    by_samples: bool
    of_paper: bool

    def find(self, place: CellPlace, model: str) -> Mapping[str, float]:
        """Split -> published accuracy in [0, 1]; empty where there is none."""
        for found in self.accuracies:
            if (found.dataset, found.proportion, found.clean_samples, found.model) == (*place, model):
                return found.accuracy
        return {}

    def is_same_data(self, place: CellPlace) -> bool:
        """Whether the published numbers are for these data, not for CIFAR-10 alone."""
        return not self.of_paper or self.kinds.get(place.dataset, place.dataset) in ("cifar10", "cifar100")

    def name_source(self, place: CellPlace) -> str:
        """What tables call the published numbers of a place."""
        if not self.of_paper:
            return "source"
        return "paper" if self.is_same_data(place) else "CIFAR-10"


def make_cue_sections(results: Sequence[CueResult], published: Published | None = None) -> list[Section]:
    """Figures, the accuracies and verdicts of every model, the barriers of every path, and how trainings went."""
    return [
        *_make_accuracy_figures(results, published),
        *_make_path_figures(results),
        *_make_accuracy_table(results, published),
        *_make_verdict_table(results),
        *_make_relearning_sections(results),
        *_make_barrier_table(results),
        *_make_history_figures(results),
    ]


def draw_cue_results(results: Sequence[CueResult], ax: Axes | None) -> Figure:
    """Accuracy of every model on every split, one panel for each place; the first place alone into `ax`."""
    return draw_accuracies({place.words: rows for place, rows in tabulate_accuracies(results).items()}, {}, ax)


# ---------------------------------------------------------------- tables


def _make_accuracy_table(results: Sequence[CueResult], published: Published | None) -> Iterator[Section]:
    table = tabulate_accuracies(results)
    if not table:
        return
    splits = _list_splits(table)
    rows, beside = [], False
    for place, models in table.items():
        for name, values in models.items():
            theirs = {} if published is None else published.find(place, name)
            same = published is not None and published.is_same_data(place)
            source = "" if published is None else published.name_source(place)
            beside = beside or bool(theirs)
            cells = (
                make_share_cell(values[s], theirs.get(s), source, same) if s in values else Cell("") for s in splits
            )
            rows.append((name, *cells, place.words))
    note = f"Small figures: 95 % intervals over {describe_units(table)}"
    if beside:
        note += "; then the published number and, in points, ours minus it"
    if beside and published is not None and published.of_paper:
        note += (
            "; on other data than the paper's its number for CIFAR-10, which ours cannot be compared with. " + SOURCE
        )
    columns = ("model", *map(_name_split, splits), "where")
    yield Section("Accuracy in %", tables=(_sortable(columns, rows, f"{note.removesuffix('.')}."),))


def make_share_cell(value: SeedMean, published: float | None, source: str, same_data: bool) -> Cell:
    """An accuracy in percent with its interval; below it the published one and, on the same data, ours minus it."""
    assert value.mean is not None
    lines = [format_interval(value.interval, 100, ".1f")]
    if published is not None:
        lines += [f"{source} {100 * published:.1f}"]
        lines += [f"{100 * (value.mean - published):+.1f}"] if same_data else []
    return Cell(f"{100 * value.mean:.1f}", "\n".join(filter(None, lines)), key=str(value.mean))


def _make_verdict_table(results: Sequence[CueResult]) -> Iterator[Section]:
    """What every model is invariant to."""
    models = [(p, name, model) for p, named in combine_models(results).items() for name, model in named.items()]
    if not models:
        return
    first = models[0][2]
    scale = choose_effect_scale(first)
    splits = sort_splits(split for *_, model in models for split in model)
    rows = [
        (name, *(make_effect_cell(model.effects.get(split), scale) for split in splits), place.words)
        for place, name, model in models
    ]
    columns = ("model", *map(_name_split, splits), "where")
    note = (
        f"Effects in {scale.unit} against {abbreviate_split(first.reference)}, with 95 % intervals over "
        f"{_describe_runs(models)}; invariant: the whole interval within {scale.factor * first.margin:g} {scale.unit} "
        "of zero; sensitive: all of it outside; else undetermined. For the verdicts the intervals on the "
        "interventions are widened by Holm's correction."
    )
    note += _describe_draws(first)
    yield Section("What each model relies on", tables=(_sortable(columns, rows, note),), anchor=RELIANCE)


def _make_relearning_sections(results: Sequence[CueResult]) -> Iterator[Section]:
    """Gone or hidden, place by place; of several seeds how many runs."""
    for place, named in combine_relearned(results).items():
        for section in list_relearning_sections(named):
            yield replace(section, title=f"{section.title}: {place.words}")


def _describe_draws(model: Invariance) -> str:
    """Which interventions were drawn more than once."""
    drawn = {abbreviate_split(split): effect.draws for split, effect in model.items() if effect.draws > 1}
    if not drawn:
        return ""
    names = " and ".join(drawn)
    return f" {names} were drawn {max(drawn.values())} times: accuracies and effects are means over the draws."


def _make_barrier_table(results: Sequence[CueResult]) -> Iterator[Section]:
    table = tabulate_barriers(results)
    if not table:
        return
    splits = _list_splits(table)
    rows = [
        (name, *(make_barrier_cell(values.get(split)) for split in splits), place.words)
        for place, paths in table.items()
        for name, values in paths.items()
    ]
    note = (
        "The largest rise of the loss above the chord between the ends. Small figures: 95 % intervals over "
        f"{describe_units(table)}; connected: the whole interval is at most {_describe_tolerances(results)}; not "
        f"connected: all of it is above; else undetermined.{''.join(_list_shifts(results))}"
    )
    columns = ("path", *map(_name_split, splits), "where")
    yield Section("Barriers in nats", tables=(_sortable(columns, rows, note),), anchor=PATHS)


def _describe_tolerances(results: Sequence[CueResult]) -> str:
    """The tolerance of the cells with paths; of several, that each place has its own."""
    found = [f"{tolerance:g}" for tolerance in sorted({result.tolerance for result in results if result.paths})]
    return f"{found[0]} nats" if len(found) == 1 else f"its place's tolerance, {' or '.join(found)} nats"


def make_barrier_cell(value: Any) -> Cell:
    """A barrier with its interval and its verdict; nothing where there is no such path."""
    if value is None:
        return Cell("")
    if value.mean is None:
        return Cell("not finite", value.verdict, key="inf")
    small = "\n".join(filter(None, (format_interval(value.interval, form=".2f"), value.verdict)))
    return Cell(f"{value.mean:.2f}", small, key=str(value.mean))


def describe_units(table: ValueTable) -> str:
    """What the intervals of a table are over: a run that was stopped need not have all seeds everywhere."""
    counts = {value.seeds for rows in table.values() for values in rows.values() for value in values.values()}
    return _describe_counts(counts)


def _describe_runs(models: Sequence[tuple[CellPlace, str, Invariance]]) -> str:
    return _describe_counts({model.runs for *_, model in models})


def _describe_counts(counts: set[int]) -> str:
    several = [str(count) for count in sorted(counts) if count > 1]
    if not several:
        return "the test samples"
    single = ", of one seed over the test samples" if 1 in counts else ""
    return f"the {' or '.join(several)} seeds (Student's t){single}"


def _list_shifts(results: Sequence[CueResult]) -> Iterator[str]:
    """Which paths have other ends than the networks as saved."""
    for place, named in group_paths(results).items():
        for name, paths in named.items():
            if said := describe_shifts(average_shifts(paths), NATS, paths[0].profile.names):
                yield f" {name}, {place.words}:{said}"


def _list_splits(table: ValueTable) -> list[str]:
    return sort_splits(split for rows in table.values() for values in rows.values() for split in values)


def _name_split(split: str) -> Cell:
    return Cell(abbreviate_split(split), title=SPLITS[split][1] if split in SPLITS else "")


def _sortable(columns: Sequence[Any], rows: Sequence[tuple[Any, ...]], note: str) -> Table:
    """A table whose last column says where."""
    return Table(tuple(columns), tuple(rows), note=note, words=frozenset({len(columns) - 1}), sortable=True)


# ---------------------------------------------------------------- figures


def _make_accuracy_figures(results: Sequence[CueResult], published: Published | None) -> list[Section]:
    table = tabulate_accuracies(results)
    if not table:
        return []
    # Figures show published marks beside numbers that they can be compared with.
    theirs = {} if published is None else {
        place: {name: shares for name in models if (shares := published.find(place, name))}
        for place, models in table.items()
        if published.is_same_data(place)
    }  # fmt: skip
    counts = {place.clean for place in table if place.clean is not None}
    if published is not None and published.by_samples and len(counts) > 1:
        return [_make_samples_figure(place, table, theirs) for place in dict.fromkeys(place[:2] for place in table)]
    places = {place.words: rows for place, rows in table.items()}
    figure = draw_accuracy_figure(places, {place.words: shares for place, shares in theirs.items()})
    return [Section("Accuracy", figures=(figure,))]


def _make_samples_figure(
    where: tuple[str, float], table: ValueTable, published: Mapping[CellPlace, Mapping[str, Mapping[str, float]]]
) -> Section:
    """Accuracy by the number of clean samples, at one dataset and proportion."""
    here = {place.clean: place for place in table if place[:2] == where and place.clean is not None}
    names = dict.fromkeys(name for place in here.values() for name in table[place] if name != "theta_C")
    models = {
        name: {count: table[place][name] for count, place in here.items() if name in table[place]} for name in names
    }
    theirs = {
        name: {count: shares[name] for count, place in here.items() if name in (shares := published.get(place, {}))}
        for name in names
    }
    dataset, proportion = where
    title = f"Accuracy by clean samples: {dataset}, cue on {100 * proportion:g} %"
    return Section(title, figures=(draw_samples_figure(models, theirs),))


def _make_path_figures(results: Sequence[CueResult]) -> list[Section]:
    heights = tabulate_barriers(results)
    return [
        Section(f"Paths: {place.words}", figures=(_make_path_figure(named, heights[place]),))
        for place, named in group_paths(results).items()
    ]


def _make_path_figure(named: Mapping[str, Sequence[Any]], heights: Mapping[str, Mapping[str, SeedMean]]) -> Drawing:
    ends = {paths[0].end for paths in named.values()}
    shifts = {
        name: said
        for name, paths in named.items()
        if (said := describe_shifts(average_shifts(paths), NATS, paths[0].profile.names))
    }
    return draw_paths_figure(
        {name: (paths[0].profile.ts, average_curves(paths)) for name, paths in named.items()},
        heights,
        ends.pop() if len(ends) == 1 else "",
        {name: list_saved_ends(named[name]) for name in shifts},
        shifts,
    )


def _make_history_figures(results: Sequence[CueResult]) -> list[Section]:
    found = combine_histories(results)
    if not found:
        return []
    figures = tuple(draw_histories_figure(trainings, place.words) for place, trainings in found.items())
    return [Section("How every training went, epoch by epoch", figures=figures, folded=True)]
