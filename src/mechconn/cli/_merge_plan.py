"""What `mechconn merge` was asked: its words, checked together, and the [merge] that they change."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechconn.cli._app import check_target, choose_device
from mechconn.cli._merge_config import NONE, MergeConfig
from mechconn.cli._merge_request import MergeRequest, find_networks
from mechconn.core import (
    Precision,
    build_named,
    check_choice,
    check_new_folder,
    check_precision,
    collect_errors,
    list_first,
    list_options,
    raise_mistakes_as_lines,
    read_config,
)
from mechconn.merging import MergeMethod, TensorMerge, check_has_base, choose_better, read_size
from mechconn.models import is_adapter_folder, is_merged_folder

if TYPE_CHECKING:
    from mechconn.cli._judging_config import JudgingConfig

PAGE = "merge.html"
CHANGING = ("method", "weights", "align")
"""Words that say how networks are merged."""


@dataclass(frozen=True)
class MergeWords:
    """The words of the command line, in their order."""

    models: tuple[Path, ...]
    data: Path | None
    output: Path | None
    method: str | None
    weights: str | None
    base: Path | None
    align: str | None
    judge: Path | None
    tolerance: float | None
    splits: str | None
    better: str | None
    until: str | None
    factory: str | None
    key: str | None
    shard_size: str
    root: Path | None
    seed: int
    device: str
    precision: str


@dataclass(frozen=True)
class MergePlan:
    """What is to be done.

    Attributes:
        request: the networks, and how they are read.
        settings: [merge].
        config: what judges; None: nothing does.
        folder: what its paths are relative to.
        output: the new folder, or the page of a folder that is judged.
        shard_size: the most bytes of a file of weights.
        device: where to compute.
        precision: in which number type.
    """

    request: MergeRequest
    settings: MergeConfig
    config: JudgingConfig | None
    folder: Path
    output: Path
    shard_size: int
    device: str
    precision: Precision

    @property
    def method(self) -> TensorMerge:
        """The method of a merge that is not judged: it was found to merge tensor by tensor."""
        found = build_named("method", MergeMethod, self.settings.method)
        assert isinstance(found, TensorMerge)
        return found

    @property
    def are_adapters(self) -> bool:
        """Whether the networks are adapters, all or none of them where nothing is judged."""
        return any(map(is_adapter_folder, self.request.parents.values()))


def plan_merge(words: MergeWords) -> MergePlan:
    """The words of the command line, once they fit together; mistakes in any of them are told together.

    Raises:
        ValueError, FileNotFoundError: as said, a line each.
    """
    (parents, merged, how), config, output, size, place, kind, *_ = collect_errors(
        lambda: find_networks(words.models, words.judge),
        lambda: _read_configuration(words.data, words.until),
        lambda: _choose_output(words),
        lambda: read_size(words.shard_size),
        lambda: choose_device(words.device),
        lambda: check_precision(words.precision),
        lambda: None if words.method is None else parse_method(words.method),
        lambda: None if words.weights is None else parse_weights(words.weights),
        lambda: _check_judging(words),
    )
    named = MergeConfig() if config is None or config.merge is None else config.merge
    settings = change_settings(words, named, list(parents))
    if config is None:
        _check_unjudged(words, settings, parents)
    else:
        _check_judged(words, settings, config, parents)
        config = config.model_copy(update={"merge": settings})
    request = MergeRequest(parents, merged, how, words.factory, words.base, words.key, words.root, words.seed)
    return MergePlan(request, settings, config, _find_start(words.data), output, size, place, kind)


def _read_configuration(file: Path | None, until: str | None) -> JudgingConfig | None:
    if file is None:
        return None
    from mechconn.cli._judging_config import JudgingConfig
    from mechconn.cli._reading_config import choose_until

    return choose_until(until, read_config(file, JudgingConfig))


def _find_start(data: Path | None) -> Path:
    return Path() if data is None else data.parent


def _find_judged(words: MergeWords) -> Path | None:
    """The folder that was merged before."""
    return words.models[0] if words.judge is None and len(words.models) == 1 else words.judge


def _choose_output(words: MergeWords) -> Path:
    """The new folder, or the page of what is judged; what could not be written is refused before the work starts."""
    if _find_judged(words) is not None:
        page = words.output or Path(PAGE)
        check_target(page, *([] if words.data is None else [words.data]))
        return page
    if words.output is None:
        raise ValueError("the merged network needs a new folder; name it: -o merged/")
    check_new_folder(words.output)
    return words.output


def _check_judging(words: MergeWords) -> None:
    """Raise where a folder that was merged before is to be judged, and nothing says on what, or how to merge it."""
    merged = _find_judged(words)
    if merged is None or (words.judge is None and not is_merged_folder(merged)):
        return
    if words.data is None:
        raise ValueError(f"{merged} was merged before, and is judged on data; name them: --data audit.toml")
    if given := [f"--{name}" for name in CHANGING if getattr(words, name) is not None]:
        raise ValueError(f"{' and '.join(given)}: {merged} was merged before, and is judged as it is; leave that out")


def change_settings(words: MergeWords, settings: MergeConfig, names: Sequence[str]) -> MergeConfig:
    """[merge] with what the command line says.

    Raises:
        ValueError: a line for each value that is wrong, or weights for other networks or of a method without any.
    """
    given: dict[str, Any] = settings.model_dump(exclude_defaults=True)
    if words.method is not None:
        given["method"] = parse_method(words.method)
        if "data" in given and "data" not in list_options("method", MergeMethod, given["method"]):
            del given["data"]  # of the file's own method
    if words.align is not None:
        given["align"] = read_table(words.align)
        given.pop("onto", None)
    if words.tolerance is not None:
        given["tolerance"] = words.tolerance
    if words.splits is not None:
        given["splits"] = [name.strip() for name in words.splits.split(",") if name.strip()]
    if words.better is not None:
        given["better"] = words.better
    if words.weights is not None:
        given["method"] = _add_weights(given.get("method", settings.method), parse_weights(words.weights), names)
    with raise_mistakes_as_lines(MergeConfig, "merge."):
        return MergeConfig.model_validate(given)


def _add_weights(method: Any, weights: Mapping[str, float], names: Sequence[str]) -> dict[str, Any]:
    if "weights" not in list_options("method", MergeMethod, method):
        raise ValueError(f"--weights are for methods that have some, such as mean, and {method!r} has none")
    if set(weights) != set(names):
        raise ValueError(
            f"--weights must name every network once, {', '.join(names)}, got {list_first([*weights])}; as in "
            f"--weights {','.join(f'{name}=1' for name in names)}"
        )
    table = {"name": method} if isinstance(method, str) else dict(method)
    return {**table, "weights": dict(weights)}


def parse_method(text: str) -> Any:
    """A merge method's name, or a table of a name and options as TOML writes it.

    Raises:
        ValueError: it is no such table, or names no method, or an option that it does not have.
    """
    named = read_table(text)
    list_options("--method", MergeMethod, named)
    return named


def read_table(text: str) -> Any:
    """A name, or a table as TOML writes it.

    Raises:
        ValueError: it is no such table.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        return tomllib.loads(f"item = {text}")["item"]
    except ValueError as error:
        raise ValueError(
            f'{text} is no table ({error}); write {{name="ties", density=0.2}}, texts in quotes'
        ) from error


def parse_weights(text: str) -> dict[str, float]:
    """Name -> weight, of a=0.7,b=0.3.

    Raises:
        ValueError: it is not so.
    """
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"--weights must be names with numbers, as in a=0.7,b=0.3, got {text!r}")
    return found


def _check_unjudged(words: MergeWords, settings: MergeConfig, parents: Mapping[str, Path]) -> None:
    """Raise where what is asked needs networks or data, and none are named."""
    collect_errors(
        lambda: _check_streams(words, settings, any(map(is_adapter_folder, parents.values()))),
        lambda: _check_adapters(parents),
        lambda: _refuse_without_data("--align", words.align, "symmetries are found on rows"),
        lambda: _refuse_without_data("--tolerance", words.tolerance, "nothing is judged"),
        lambda: _refuse_without_data("--splits", words.splits, "nothing is judged"),
        lambda: _refuse_without_data("--better", words.better, "nothing is judged"),
        lambda: _refuse_without_data("--until", words.until, "nothing is judged"),
    )


def _check_judged(words: MergeWords, settings: MergeConfig, config: JudgingConfig, parents: Mapping[str, Path]) -> None:
    """Raise where what is asked does not fit the configuration, or the networks, before any of them is read."""
    names = config.model_copy(update={"relearn": None}).split_names
    collect_errors(
        *(lambda name=name: check_choice("merge.splits", name, names) for name in settings.splits or ()),
        lambda: _check_better(config.on, settings),
        lambda: _check_base(words, settings, any(map(is_adapter_folder, parents.values()))),
    )


def _check_better(on: str, settings: MergeConfig) -> None:
    if on not in ("accuracy", "loss") and settings.better is None:
        raise ValueError(
            f"on = {on!r} is a metric of your own, of which better values are not known; name them under [merge], "
            'better = "higher" or "lower" (--better)'
        )
    choose_better(on, settings.better)


def _check_base(words: MergeWords, settings: MergeConfig, adapters: bool) -> None:
    """Raise where a base is named that has no part in what is asked; that of adapters always has."""
    if words.base is None or adapters:
        return
    if (merged := _find_judged(words)) is not None:
        raise ValueError(f"--base: {merged} was merged before, and is judged against its parents; leave that out")
    if settings.align != NONE:
        raise ValueError(
            f"--base goes without align ({settings.align!r}): parents that were fine-tuned from one base have its "
            "order of units; leave one of both out"
        )


def _check_streams(words: MergeWords, settings: MergeConfig, adapters: bool) -> None:
    if "data" in list_options("method", MergeMethod, settings.method):
        raise ValueError(f"method {settings.method!r} reads rows; name them in an audit.toml, [merge] data, and --data")
    method = build_named("method", MergeMethod, settings.method)
    if not isinstance(method, TensorMerge):
        raise ValueError(f"method {settings.method!r} needs whole networks, and so --data audit.toml")
    if not adapters:  # of which the base is their own
        check_has_base(method, words.base is not None)


def _check_adapters(parents: Mapping[str, Path]) -> None:
    """Raise where some networks are adapters and others are none, or adapters cannot be merged as asked."""
    adapters = [str(file) for file in parents.values() if is_adapter_folder(file)]
    others = [str(file) for file in parents.values() if not is_adapter_folder(file)]
    if adapters and others:
        raise ValueError(
            f"{', '.join(adapters)} hold adapters, and {', '.join(others)} whole networks; pass --data audit.toml, "
            "with which adapters are put on their base"
        )


def _refuse_without_data(word: str, value: Any, why: str) -> None:
    if value is not None:
        raise ValueError(f"{word} needs --data audit.toml: without it {why}")
