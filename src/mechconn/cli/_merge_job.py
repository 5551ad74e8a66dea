"""Several networks and the data that judge their merge, as a configuration describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.alignment import AlignmentMethod, ManyAlignmentMethod
from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_cost import count_rows, time_row
from mechconn.cli._audit_files import check_statistics, make_norm
from mechconn.cli._audit_interventions import add_interventions, fill_interventions, read_interventions
from mechconn.cli._audit_models import ModelLoader
from mechconn.cli._audit_sources import MERGED, NORM
from mechconn.cli._audit_splits import load_audit_data
from mechconn.cli._audit_text import check_texts, check_tokenizers, list_cut_texts, list_text_options
from mechconn.cli._judging_config import JudgingConfig
from mechconn.cli._merge_config import NONE, MergeConfig
from mechconn.cli._merge_request import MergeRequest
from mechconn.cli._model_checks import check_model_fits_data, find_highest_class, order_by_names, read_metrics
from mechconn.cli._named_settings import reads_data
from mechconn.connectivity import read_first_rows
from mechconn.core import Compute, build_named, check_choice, collect_errors
from mechconn.datasets import ClusterLabels, Suite
from mechconn.losses import Loss, read_loss
from mechconn.merging import Merged, MergeMethod, judge_merged, merge
from mechconn.models import check_weights_there, is_adapter_folder
from mechconn.network import Metric, Network, NormPolicy

JUDGED = "the merged network"


@dataclass(frozen=True, eq=False)
class MergeJob:
    """Everything read and checked, ready to run."""

    request: MergeRequest
    config: JudgingConfig
    models: dict[str, nn.Module]
    merged: nn.Module | None
    base: nn.Module | None
    suite: Suite
    norm: NormPolicy | None
    method: MergeMethod | None
    align: Any
    loss: Loss
    metrics: dict[str, Metric]
    clusters: ClusterLabels | None
    hashes: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def settings(self) -> MergeConfig:
        """[merge]."""
        return self.config.merge or MergeConfig()

    def estimate_seconds(self, compute: Compute) -> tuple[int, float]:
        """(forward passes of one row, seconds): every network on every split, once."""
        networks = len(self.models) + 1 + (self.align is not None)
        passes = networks * sum(map(count_rows, self.suite.values()))
        model = next(iter(self.models.values()))
        return passes, passes * time_row(Network(model, compute), model, self.suite[self.suite.reference])


def prepare_merge(request: MergeRequest, config: JudgingConfig, folder: Path) -> MergeJob:
    """Read all networks and data; mistakes in any of them are reported together, a line each.

    Args:
        request: what the command line names.
        config: what to do; its [merge] is that of the command line already.
        folder: what its paths are relative to.

    Raises:
        ValueError, FileNotFoundError: files that are not there or cannot be read, networks and data that do not fit
            each other or the configuration.
    """
    settings = config.merge or MergeConfig()
    if request.merged is not None:  # merged before
        settings = MergeConfig(tolerance=settings.tolerance, splits=settings.splits, better=settings.better)
    config = _leave_out_others(config, settings)
    said: list[str] = []
    loader = _make_loader(request, config, said)
    files = [*request.parents.values(), *([] if request.merged is None else [request.merged])]
    (models, merged, base), data, loss, metrics, functions, *_ = collect_errors(
        lambda: _load_networks(request, loader, config),
        lambda: load_audit_data(
            config,
            folder,
            request.root,
            request.seed,
            lambda: list_text_options(config, folder, files, _base_of_adapters(request)),
        ),
        lambda: read_loss(config.loss),
        lambda: read_metrics(config),
        lambda: read_interventions(config.made_splits),
        *(lambda o=other: check_tokenizers(config, [files[0], o], None, said.append) for other in files[1:]),
        *(lambda file=file: check_weights_there(file) for file in files),
        lambda: _check_onto(settings, request),
        lambda: None if request.merged is not None else _check_method(settings),
    )
    _refuse_judging_rows(config, data.sources)
    functions = fill_interventions(config, functions, data, folder)
    sets, changing = add_interventions(data.splits, config.reference, functions, request.seed)
    suite = Suite(sets, config.reference, config.intervention_names, paired=config.paired)
    example, targets = read_first_rows(suite, torch.device("cpu"), request.seed)
    highest = max(find_highest_class(split, loss) for split in suite.values()) if loss.classes_are_outputs else -1
    named = [*models.items(), *([] if merged is None else [(JUDGED, merged)])]
    check_texts(named, suite, example)
    collect_errors(*(lambda n=n, m=m: check_model_fits_data(n, m, example, targets, highest, loss) for n, m in named))
    ordered = order_by_names(config, [*named, *([] if base is None else [("base", base)])], suite, example, loss)
    trained = data.read.get(NORM)
    return MergeJob(
        request=request,
        config=config,
        models=models,
        merged=merged,
        base=base,
        suite=suite,
        norm=None if merged is not None else make_norm(config, trained),
        method=None if merged is not None else _build_method(settings, data.read),
        align=None if merged is not None else _make_alignment(config, settings, trained, loss, next(iter(models))),
        loss=loss,
        metrics=metrics,
        clusters=None if data.clusters is None else ClusterLabels(data.clusters, suite),
        hashes={name: loader.hash_weights(file) for name, file in request.parents.items()},
        notes=(*dict.fromkeys(said), *changing, *list_cut_texts(data.read), *ordered),
    )


def _leave_out_others(config: JudgingConfig, settings: MergeConfig) -> JudgingConfig:
    """The configuration without what an audit asks beside; its alignment is that of the merge."""
    others = dict.fromkeys(("relearn", "probe", "groups", "blocks", "layers"))
    return config.model_copy(update={**others, "alignment": settings.align, "merge": settings})


def _make_loader(request: MergeRequest, config: AuditConfig, said: list[str]) -> ModelLoader:
    return ModelLoader(
        request.factory or config.model.factory,
        config.model.arguments,
        _base_of_adapters(request),
        config.model.key if request.key is None else request.key,
        request.seed,
        said.append,
    )


def _base_of_adapters(request: MergeRequest) -> Path | None:
    """The base, where the networks are adapters on it."""
    return request.base if any(map(is_adapter_folder, request.parents.values())) else None


def _load_networks(
    request: MergeRequest, loader: ModelLoader, config: AuditConfig
) -> tuple[dict[str, nn.Module], nn.Module | None, nn.Module | None]:
    """(name -> parent, the merged network that is judged, the base of the parents' changes)."""
    base = None if request.base is None or _base_of_adapters(request) is not None else request.base
    *models, merged, own = collect_errors(
        *(lambda file=file: loader.load(file) for file in request.parents.values()),
        lambda: None if request.merged is None else loader.load(request.merged),
        lambda: None if base is None else loader.load(base),
    )
    if request.merged is None:
        check_statistics(config, models[0])
    return dict(zip(request.parents, models, strict=True)), merged, own


def _refuse_judging_rows(config: AuditConfig, sources: Mapping[str, str]) -> None:
    """Raise where the rows that choose or weigh networks are read from where a split is."""
    splits = {sources[name]: name for name in config.splits}
    for name, place in sources.items():
        if name.startswith(MERGED) and place in splits:
            raise ValueError(
                f"merge.data = {place!r} is the split {splits[place]!r}, so that no verdict on it holds; name rows "
                "that are in no split"
            )


def _check_method(settings: MergeConfig) -> None:
    """Raise where the method of [merge] cannot be built, as far as is known without its data."""
    needs = reads_data("method", MergeMethod, settings.method)
    if settings.data is not None and not needs:
        raise ValueError(
            f"merge.data is for methods that read rows, and {settings.method!r} reads none; leave it out, or name a "
            "method that does"
        )
    if needs and settings.data is None:
        raise ValueError(
            f"method = {settings.method!r} reads rows that choose or weigh the networks; name them under [merge], "
            'data = "..." (in no split of the suite)'
        )
    if not needs:
        build_named("method", MergeMethod, settings.method)


def _build_method(settings: MergeConfig, read: Mapping[str, Any]) -> MergeMethod:
    """The method of [merge], with the data that were read for it."""
    own = settings.data
    if own is None:
        return build_named("method", MergeMethod, settings.method)
    rows = read[MERGED] if isinstance(own, str) else {name: read[f"{MERGED} {name}"] for name in own}
    label = own if isinstance(own, str) else ", ".join(own.values())
    return build_named("method", MergeMethod, settings.method, data=rows, label=label)


def _check_onto(settings: MergeConfig, request: MergeRequest) -> None:
    if settings.onto is None or request.merged is not None:
        return
    if settings.align == NONE:
        raise ValueError(f"merge.onto = {settings.onto!r} goes with align = ..., which is not set; leave onto out")
    check_choice("merge.onto", settings.onto, [*request.parents])


def _make_alignment(config: AuditConfig, settings: MergeConfig, trained: Any, loss: Loss, first: str) -> Any:
    """What `merge` is told to align by: with a method for pairs the one that stays; None where nothing is aligned."""
    if settings.align == NONE:
        return None
    given = {"data": trained, "label": str(config.norm.data), "loss": loss}
    method = build_named("align", AlignmentMethod, settings.align, **given)
    if settings.onto is not None and isinstance(method, ManyAlignmentMethod):
        raise ValueError(
            f"merge.onto = {settings.onto!r} goes with a method for pairs, and {settings.align!r} moves all networks "
            "into one order; leave onto out"
        )
    return method if isinstance(method, ManyAlignmentMethod) else (method, settings.onto or first)


def run_merge(job: MergeJob, compute: Compute) -> Merged:
    """Merge and judge, or judge what was merged, with samples of every split for the page."""
    asked = {
        "margin": job.config.margin,
        "tolerance": job.settings.tolerance,
        "on": job.config.on,
        "better": job.settings.better,
        "splits": job.settings.splits,
        "ignore": job.config.ignore,
        "loss": job.loss,
        "metrics": job.metrics,
        "cluster": job.clusters,
        "until": job.config.until,
        "seed": job.request.seed,
        "compute": compute,
        "samples": job.config.samples,
    }
    if job.merged is not None:
        found = judge_merged(job.models, job.merged, job.suite, method=job.request.method, **asked)
    else:
        assert job.method is not None
        found = merge(job.models, job.method, job.suite, base=job.base, align=job.align, norm=job.norm, **asked)
    own = {
        "config": job.config.model_dump(mode="json"),
        "merge": job.settings.model_dump(mode="json"),
        "sha256 of the weights": dict(job.hashes),
    }
    notes = (*job.notes, *found.notes)
    return replace(found, notes=notes, settings={**found.settings, **own})
