"""An audit of two files of weights on data in files, as a configuration describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.alignment import AlignmentMethod
from mechconn.cli._audit_config import UNNAMED, AuditConfig, read_name, reads_data
from mechconn.cli._audit_interventions import add_interventions, fill_interventions, read_interventions
from mechconn.cli._audit_models import ModelLoader
from mechconn.cli._audit_relearn import (
    check_splits,
    list_controls,
    load_controls,
    make_probe_task,
    make_relearning_task,
)
from mechconn.cli._audit_sources import NORM
from mechconn.cli._audit_splits import load_audit_data
from mechconn.cli._audit_text import check_texts, check_tokenizers, list_cut_texts, list_text_options
from mechconn.cli._model_checks import check_model_fits_data, find_highest_class, order_by_names, read_metrics
from mechconn.cli._reading_config import ReadingConfig
from mechconn.connectivity import group_parameters, read_first_rows
from mechconn.core import (
    Compute,
    build_named,
    check_choice,
    collect_errors,
)
from mechconn.datasets import ClusterLabels, Suite
from mechconn.losses import Loss, read_loss
from mechconn.mechanisms import Audit, GroupTask, ProbeTask, RelearningTask, audit, check_layers
from mechconn.models import check_weights_there
from mechconn.network import (
    Metric,
    Network,
    NormPolicy,
    Reestimate,
    find_statistics_layers,
)


@dataclass(frozen=True)
class AuditJob:
    """Everything read and checked, ready to run."""

    config: ReadingConfig
    models: tuple[nn.Module, nn.Module]
    names: tuple[str, str]
    suite: Suite
    hashes: dict[str, str]
    norm: NormPolicy | None
    training: Any
    loss: Loss
    metrics: dict[str, Metric]
    notes: tuple[str, ...] = ()
    clusters: ClusterLabels | None = None
    relearn: RelearningTask | None = None
    probe: ProbeTask | None = None
    groups: GroupTask | None = None


def prepare_audit(
    weights: tuple[Path, Path],
    factory: str | None,
    config: ReadingConfig,
    folder: Path,
    seed: int = 0,
    root: Path | None = None,
    base: Path | None = None,
    key: str | None = None,
) -> AuditJob:
    """Read both models and all data; mistakes in any of them are reported together, a line each.

    Args:
        weights: files or folders of the two models' weights.
        factory: "package.module:function"; default: the configuration's.
        config: what to do.
        folder: what its paths are relative to.
        seed: of the weights before the files fill them.
        root: the folder that holds the named image sets; see `mechconn.datasets.load`.
        base: the network that adapters were trained on: a folder, or its weights; default: as the adapters name it.
        key: which state of a file is read where it holds several; default: the configuration's.

    Raises:
        ValueError, FileNotFoundError: files that are not there or cannot be read, models and data that do not fit each
            other or the configuration.
    """
    config = config.model_copy(update={"merge": None})
    files, said = (*weights, *list_controls(config, folder).values()), list[str]()
    loader = ModelLoader(
        factory or config.model.factory,
        config.model.arguments,
        base,
        config.model.key if key is None else key,
        seed,
        said.append,
    )
    (models, controls), data, loss, metrics, functions, *_ = collect_errors(
        lambda: _load_models(weights, loader, config, folder),
        lambda: load_audit_data(config, folder, root, seed, lambda: list_text_options(config, folder, weights, base)),
        lambda: read_loss(config.loss),
        lambda: read_metrics(config),
        lambda: read_interventions(config.made_splits),
        lambda: check_splits(config),
        lambda: check_tokenizers(config, weights, base, said.append),
        lambda: loader.check_base(files),
        *(lambda file=file: check_weights_there(file) for file in files),
    )
    trained = data.read.get(NORM)
    functions = fill_interventions(config, functions, data, folder)
    sets, changing = add_interventions(data.splits, config.reference, functions, seed)
    suite = Suite(sets, config.reference, config.intervention_names, paired=config.paired)
    clusters = None if data.clusters is None else ClusterLabels(data.clusters, suite)
    example, targets = read_first_rows(suite, torch.device("cpu"), seed)
    highest = max(find_highest_class(data, loss) for data in suite.values()) if loss.classes_are_outputs else -1
    names = _name_models(weights)
    named = [*zip(names, models, strict=True), *((f"{table}.control", own) for table, own in controls.items())]
    check_texts(named, suite, example)
    collect_errors(
        *(lambda n=name, m=model: check_model_fits_data(n, m, example, targets, highest, loss) for name, model in named)
    )
    if isinstance(config.layers, list):
        check_layers(models[0], models[1], example, config.layers)
    notes = (
        *dict.fromkeys(said),
        *changing,
        *list_cut_texts(data.read),
        *order_by_names(config, named, suite, example, loss),
    )
    norm = make_norm(config, trained)
    hashes = {name: loader.hash_weights(file) for (name, _), file in zip(named, files, strict=True)}
    return AuditJob(
        config, models, names, suite, hashes, norm, trained, loss, metrics, notes, clusters,
        make_relearning_task(config, data, controls), make_probe_task(config, data, suite, controls), data.groups,
    )  # fmt: skip


def _load_models(
    weights: tuple[Path, Path], loader: ModelLoader, config: AuditConfig, folder: Path
) -> tuple[tuple[nn.Module, nn.Module], dict[str, nn.Module]]:
    """Both models, once what the configuration asks of them is known to be there, and the controls."""
    first, second, controls = collect_errors(
        lambda: loader.load(weights[0]),
        lambda: loader.load(weights[1]),
        lambda: load_controls(config, folder, loader.load),
    )
    collect_errors(
        lambda: check_statistics(config, first),
        lambda: (
            config.blocks is None or group_parameters([n for n, _ in first.named_parameters()], config.blocks, None)
        ),
        *(lambda layer=layer: _check_layer(layer, (first, second)) for layer in _list_layers(config.layers)),
    )
    return (first, second), controls


def _list_layers(layers: str | list[str] | None) -> list[str]:
    return layers if isinstance(layers, list) else []


def _check_layer(layer: str, models: tuple[nn.Module, nn.Module]) -> None:
    for model in models:
        check_choice("layer", layer, [name for name, _ in model.named_modules(remove_duplicate=False) if name])


def check_statistics(config: AuditConfig, model: nn.Module) -> None:
    """Raise where a policy or data for the norm statistics, or data for the alignment, are needed and not named."""
    layers = list(find_statistics_layers(Network(model)))
    if layers and read_name(config.norm.policy) == "repair":
        raise ValueError(
            f"policy = 'repair' is for networks without normalisation statistics, and these keep some "
            f"({_list_first(layers)}); set policy = 'reestimate' under [norm]"
        )
    if config.norm.data is not None:
        return
    if layers and config.norm.policy is None:
        raise ValueError(
            f"the networks keep normalisation statistics ({_list_first(layers)}), which do not fit elsewhere on the "
            'path; under [norm] name training data for them, data = "...", or set policy = "interpolate" to mix those '
            'of both ends, or policy = "keep" to use the first network\'s everywhere'
        )
    if config.alignment not in UNNAMED and reads_data("alignment", AlignmentMethod, config.alignment):
        raise ValueError(
            f"alignment = {config.alignment!r} needs training data to compare units on; name them under [norm], "
            'data = "...", or match "weights"'
        )


def _list_first(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    return f"{', '.join(layers[:3])}{more}"


def make_norm(config: AuditConfig, trained: Any) -> NormPolicy | None:
    """The policy of the configuration; None where it names neither one nor data."""
    given = {"data": trained, "label": str(config.norm.data), "average": config.norm.average}
    if config.norm.policy is None:
        return None if trained is None else Reestimate(**given)
    policy = build_named("policy", NormPolicy, config.norm.policy, **given)
    if config.blocks is not None and policy.reads_ends():
        raise ValueError(
            f"policy = {config.norm.policy!r} needs a path between two networks, which a block that moves alone does "
            "not have; leave out blocks, or set policy = 'reestimate' or 'keep'"
        )
    return policy


def _name_models(weights: tuple[Path, Path]) -> tuple[str, str]:
    """Names of the files, or of their folders where these are alike (a/model.safetensors); else whole paths."""
    stems = [file.stem if file.suffix else file.name for file in weights]
    folders = [file.absolute().parent.name for file in weights]
    for first, second in (stems, folders, map(str, weights)):
        if first != second:
            break
    return first, second


def run_audit(
    job: AuditJob,
    *,
    seed: int = 0,
    compute: Compute | None = None,
) -> Audit:
    """Audit what was prepared, with samples of every split for the page."""
    config = job.config
    found = audit(
        *job.models,
        job.suite,
        norm=job.norm,
        margin=config.margin,
        on=config.on,
        alignment=make_alignment(job),
        ts=config.points,
        loss=job.loss,
        metrics=job.metrics,
        cluster=job.clusters,
        relearn=job.relearn,
        probe=job.probe,
        groups=job.groups,
        until=config.until,
        tolerance=config.tolerance,
        blocks=config.blocks,
        layers=config.layers,
        names=job.names,
        ignore=config.ignore,
        seed=seed,
        compute=compute,
        samples=config.samples,
    )
    own = {"config": config.model_dump(mode="json"), "sha256 of the weights": job.hashes}
    return replace(
        found,
        notes=(*job.notes, *found.notes),
        settings={**found.settings, **own},
    )


def make_alignment(job: AuditJob) -> Any:
    """The alignment that a configuration names, with its training data; "auto" and "none" as they are."""
    named = job.config.alignment
    if named in UNNAMED:
        return named
    given = {"data": job.training, "label": str(job.config.norm.data), "loss": job.loss}
    return build_named("alignment", AlignmentMethod, named, **given)
