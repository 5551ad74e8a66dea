"""The models of a folder, and what a map asks of them: read from files, checked, in any process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.alignment import AlignmentMethod
from mechconn.cli._audit_config import UNNAMED, AuditConfig, reads_data
from mechconn.cli._audit_files import check_statistics, make_norm
from mechconn.cli._audit_interventions import add_interventions, fill_interventions, read_interventions
from mechconn.cli._audit_models import ModelLoader
from mechconn.cli._audit_sources import NORM, list_further
from mechconn.cli._audit_splits import load_audit_data, resolve_source
from mechconn.cli._audit_text import check_texts, check_tokenizers, list_cut_texts, list_text_options
from mechconn.cli._model_checks import check_model_fits_data, find_highest_class, order_by_names, read_metrics
from mechconn.connectivity import Evaluator, RowReader, read_first_rows
from mechconn.core import Compute, build_named, check_choice, collect_errors, import_function, list_kinds, list_options
from mechconn.datasets import ClusterLabels, Suite
from mechconn.losses import Loss, read_loss
from mechconn.mechanisms import MapTask
from mechconn.models import BESIDE, is_adapter_folder, list_candidates
from mechconn.network import Metric, NormPolicy

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
"""Of files of weights: one that is damaged is named, not passed over."""
HOLD = 2 * 2**30
"""Bytes of models that a process keeps for further paths."""


def check_models_folder(folder: Path) -> None:
    """Raise ValueError where the folder of the models is missing."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; pass the folder that holds the models, a file or a folder for each")


def find_models(folder: Path, config: AuditConfig, where: Path) -> dict[str, Path]:
    """Name -> file or folder of each model in a folder; names are those of the files, numbers in them in their order.

    Files of data that the configuration names are no models, nor are folders without weights.

    Args:
        folder: holds the models.
        config: names the data.
        where: what the configuration's paths are relative to.

    Raises:
        ValueError: no folder, the folder of one model, fewer than two models, or two of one name.
    """
    check_models_folder(folder)
    if (folder / "config.json").is_file() or is_adapter_folder(folder):
        raise ValueError(f"{folder} is the folder of one model; pass the folder that holds several such folders")
    data = {Path(resolve_source(where, place, True)).resolve() for place in _list_places(config)}
    files = [file for file in _list_files(folder) if file.resolve() not in data]
    inner = [part for part in folder.iterdir() if part.is_dir() and part.resolve() not in data and _holds_model(part)]
    found: dict[str, list[Path]] = {}
    for path in sorted([*files, *inner], key=_split_numbers):
        found.setdefault(path.name if path.is_dir() else path.stem, []).append(path)
    if twice := {name: paths for name, paths in found.items() if len(paths) > 1}:
        raise ValueError("\n".join(map(_explain_twice, twice, twice.values())))
    if len(found) < 2:
        names = f"only {next(iter(found.values()))[0].name}" if found else "none"
        raise ValueError(f"a map needs two models or more, and {folder} holds {names}; add files or folders of weights")
    return {name: paths[0] for name, paths in found.items()}


def choose_align(named: str | None, config: AuditConfig) -> Any:
    """The method that --align names; where it is left out, that of the file where it names one; None for none.

    Raises:
        ValueError: no such method.
    """
    if named is None:
        return None if config.alignment in UNNAMED else config.alignment
    if named == "none":
        return None
    if ":" not in named:
        check_choice("--align", named, ["none", *list_kinds(AlignmentMethod)])
    list_options("--align", AlignmentMethod, named)
    return named


def _explain_twice(name: str, paths: list[Path]) -> str:
    return f"{' and '.join(path.name for path in paths)} both give a model the name {name!r}; rename one of them"


def _list_files(folder: Path) -> list[Path]:
    """The files that hold weights, and those that should by their names; without what training leaves beside them."""
    named = [file for file in folder.iterdir() if file.suffix in SUFFIXES and not BESIDE.match(file.name)]
    return sorted({*list_candidates(folder), *named})


def _list_places(config: AuditConfig) -> list[str]:
    return [place.partition("#")[0] for place in (*config.splits.values(), *list_further(config).values())]


def _holds_model(folder: Path) -> bool:
    if (folder / "config.json").is_file() or (folder / ".metadata").is_file() or is_adapter_folder(folder):
        return True
    return not folder.name.startswith(".") and bool(list_candidates(folder))


def _split_numbers(path: Path) -> list[tuple[int, str]]:
    """A key that puts s2 before s10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


@dataclass(frozen=True)
class MapRequest:
    """What a map is of, as plain values: a worker reads the rest from files.

    Attributes:
        files: name -> file or folder.
        config: what to measure, and how.
        folder: what the configuration's paths are relative to.
        factory: "package.module:function"; None: the configuration's, or folders hold the networks.
        base: of adapters.
        key: which state of a file is read where it holds several.
        root: the folder that holds the named sets.
        seed: of everything that is drawn.
        device: where to compute.
        precision: the type of the layers.
        align: a method by name or as a table; None: no symmetry is removed.
    """

    files: Mapping[str, Path]
    config: AuditConfig
    folder: Path
    factory: str | None
    base: Path | None
    key: str | None
    root: Path | None
    seed: int
    device: str
    precision: Any
    align: Any

    @property
    def names(self) -> list[str]:
        """The models, the one whose module is used for paths first."""
        return list(self.files)


@dataclass(eq=False)
class MapContext:
    """What a request names, read once in each process; models as they are needed.

    Attributes:
        request: what it is of.
        suite: the splits.
        loss: a value per sample.
        metrics: by name.
        clusters: a label for each row; None where rows are independent.
        training: the data under [norm]; None where there are none.
        norm: where statistics come from on paths; None where the configuration does not say.
        notes: what a reader should know.
    """

    request: MapRequest
    loader: ModelLoader
    suite: Suite
    loss: Loss
    metrics: dict[str, Metric]
    clusters: ClusterLabels | None
    training: Any
    norm: NormPolicy | None
    said: list[str]
    notes: list[str] = field(default_factory=list)
    _evaluators: dict[str, tuple[nn.Module, Evaluator]] = field(default_factory=dict)
    _readers: dict[str, RowReader] = field(default_factory=dict)
    _first: tuple[Any, Any] | None = None

    @property
    def compute(self) -> Compute:
        """How to compute."""
        return Compute(self.request.device, self.request.precision)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Buffers that are no part of what is computed."""
        return tuple(self.request.config.ignore)

    @property
    def rows(self) -> tuple[Any, torch.Tensor]:
        """(inputs, targets) of the first rows of the reference."""
        self._first = self._first or read_first_rows(self.suite, torch.device("cpu"), self.request.seed)
        return self._first

    def load(self, name: str) -> tuple[nn.Module, Evaluator]:
        """(a model that fits the data, its classes in the order of theirs; what measures it), kept while there is room.

        Raises:
            ValueError, FileNotFoundError: it cannot be read, or does not fit the data.
        """
        if name not in self._evaluators:
            model = self._read(name)
            self._evaluators[name] = model, self.make_evaluator(model)
            self._drop_oldest()
        return self._evaluators[name]

    def read(self, name: str) -> RowReader:
        """The rows of the suite for a model, look by look."""
        _, evaluator = self.load(name)
        if name not in self._readers or self._readers[name].evaluator is not evaluator:
            self._readers = {own: reader for own, reader in self._readers.items() if own in self.held}
            self._readers[name] = RowReader(evaluator, evaluator.seed)
        return self._readers[name]

    def make_evaluator(self, model: nn.Module) -> Evaluator:
        """What measures a model."""
        return Evaluator(
            model,
            self.suite,
            loss=self.loss,
            metrics=self.metrics,
            cluster=self.clusters,
            seed=self.request.seed,
            compute=self.compute,
        )

    def _read(self, name: str) -> nn.Module:
        model, first = self.loader.load(self.request.files[name]), self.request.names[0]
        named = [(name, model)] if name == first else [(first, self.load(first)[0]), (name, model)]
        example, targets = self.rows
        self.notes += order_by_names(self.request.config, named, self.suite, example, self.loss)
        check_texts([(name, model)], self.suite, example)
        highest = -1
        if self.loss.classes_are_outputs:
            highest = max(find_highest_class(data, self.loss) for data in self.suite.values())
        check_model_fits_data(name, model, example, targets, highest, self.loss)
        return model

    def _drop_oldest(self) -> None:
        """Let go of models beyond what is held, but for the first and the newest two."""
        sizes = {name: _count_bytes(model) for name, (model, _) in self._evaluators.items()}
        for name in list(sizes)[:-2]:
            if sum(sizes.values()) <= HOLD:
                return
            if name != self.request.names[0]:
                del self._evaluators[name], sizes[name]

    @property
    def held(self) -> set[str]:
        """The models that are in memory."""
        return set(self._evaluators)

    def make_align(self) -> AlignmentMethod | None:
        """The method that the request names, with its data."""
        named = self.request.align
        if named is None:
            return None
        given = {"data": self.training, "label": str(self.request.config.norm.data), "loss": self.loss}
        return build_named("align", AlignmentMethod, named, **given)


def _count_bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def open_context(request: MapRequest) -> MapContext:
    """Read what a request names beside the models; mistakes in any of it are reported together, a line each.

    Raises:
        ValueError, FileNotFoundError: files that are not there or cannot be read, data that do not fit each other.
    """
    config, folder, seed, said = request.config, request.folder, request.seed, list[str]()
    files, base = tuple(request.files.values()), request.base
    loader = ModelLoader(
        request.factory or config.model.factory,
        config.model.arguments,
        base,
        config.model.key if request.key is None else request.key,
        seed,
        said.append,
    )

    def tell_texts() -> Mapping[str, Any]:
        return list_text_options(config, folder, files, base)

    data, loss, metrics, functions, *_ = collect_errors(
        lambda: load_audit_data(config, folder, request.root, seed, tell_texts),
        lambda: read_loss(config.loss),
        lambda: read_metrics(config),
        lambda: read_interventions(config.made_splits),
        lambda: check_tokenizers(config, files, base, said.append),
        lambda: loader.check_base(files),
        lambda: _check_networks(loader, request.files),
        lambda: _check_align(request.align, config),
    )
    trained = data.read.get(NORM)
    functions = fill_interventions(config, functions, data, folder)
    sets, changing = add_interventions(data.splits, config.reference, functions, seed)
    suite = Suite(sets, config.reference, config.intervention_names, paired=config.paired)
    clusters = None if data.clusters is None else ClusterLabels(data.clusters, suite)
    notes = [*changing, *list_cut_texts(data.read)]
    norm = make_norm(config.model_copy(update={"blocks": None}), trained)
    return MapContext(request, loader, suite, loss, metrics, clusters, trained, norm, said, notes)


def _check_networks(loader: ModelLoader, files: Mapping[str, Path]) -> None:
    """Raise where files of weights have no network, or the factory is not there, in one line for all of them."""
    if loader.factory is not None:
        import_function("the model's factory", loader.factory)
    bare = [file.name for file in files.values() if not file.is_dir()]
    if loader.factory is None and bare:
        more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
        raise ValueError(
            f"{bare[0]}{more} hold weights without a network; pass --model package.module:function, or set factory "
            "under [model]"
        )


def _check_align(align: Any, config: AuditConfig) -> None:
    """Raise where a method needs data that the configuration does not name."""
    if align is not None and reads_data("align", AlignmentMethod, align) and config.norm.data is None:
        raise ValueError(
            f'--align {align} needs training data to compare units on; name them under [norm], data = "...", or '
            "pass --align universe"
        )


def check_models(context: MapContext, task: MapTask, visit: Callable[[str, nn.Module], None]) -> None:
    """Load every model and refuse all that do not fit, together; `visit` is called with each that does.

    Raises:
        ValueError, FileNotFoundError: a line for each mistake.
    """
    names, walks = context.request.names, bool(task.count_paths(context.request.names))

    def check(name: str) -> None:
        try:
            model, _ = context.load(name)
            if walks and name == names[0]:
                check_statistics(context.request.config.model_copy(update={"alignment": UNNAMED[1]}), model)
        except (ValueError, TypeError) as error:
            text = str(error)
            raise type(error)(text if repr(name) in text or name in text else f"model {name!r}: {text}") from error
        visit(name, model)

    collect_errors(*(lambda name=name: check(name) for name in names))
