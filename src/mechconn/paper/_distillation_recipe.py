"""The recipe `distillation`: does a cue come over when a network that relies on it teaches another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from mechconn.core import CommaSeparated, Compute, derive_seed
from mechconn.datasets import CuedSet, Suite
from mechconn.descent import Checkpoint, Training, check_nameable
from mechconn.mechanisms import Transfer, measure_transfer
from mechconn.paper._architectures import Architecture, choose_architecture
from mechconn.paper._cells import make_cell_context
from mechconn.paper._claims import Claim
from mechconn.paper._cue_recipe import make_base_settings
from mechconn.paper._distillation_claims import judge_distillation, write_distillation
from mechconn.paper._distillation_result import LABELS_ALONE, DistillationResult, DistillationSummary, DistilledOn
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import NAMEABLE, PLAIN, Cell, Settings, list_cells
from mechconn.paper._steps import (
    CHECKPOINT,
    WEIGHTS,
    ExperimentContext,
    describe_training,
    measure_step,
    read_state,
    train_step,
)
from mechconn.paper._tasks import derive_clean_seed, find_input_shape, identify, sample_at_most
from mechconn.store import StepOutput, StoredStep
from mechconn.tuning import Distillation, distill

VERSION = 1
PlainDistillation = Annotated[Distillation, NAMEABLE, PLAIN]
NetworkName = Literal["small_convnet", "vgg13", "resnet18", "perceptron"]


class DistillationSettings(Settings):
    """Students of theta_C and of theta_NC, distilled on clean rows and on rows with the cue.

    Attributes:
        network: architecture of the teachers; also "perceptron".
        student: architecture of the students; planted data always take the perceptron.
        student_width: its width.
        methods: name -> how theta_C is distilled. The first is also that of theta_NC, the control teacher, and with
            labels alone that of the student without a teacher.
        on: what is distilled on: "clean" rows, "cued" rows (the training data of theta_C), or both.
        distilled_rows: at most so many of them; none takes all.
        least: the ratio of effects from which one transfers.
        margin: the largest effect on accuracy that counts as none.
    """

    network: NetworkName = "small_convnet"  # pyright: ignore[reportIncompatibleVariableOverride]
    student: NetworkName = "small_convnet"
    student_width: Annotated[int, Field(ge=1)] = 8
    methods: Annotated[dict[str, PlainDistillation], Field(min_length=1)]
    on: Annotated[CommaSeparated[DistilledOn], Field(min_length=1)] = get_args(DistilledOn)
    distilled_rows: Annotated[int, Field(ge=2)] | None = None
    least: Annotated[float, Field(gt=0, lt=1)] = 0.5
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05


class DistillationRecipe(Recipe):
    """theta_C teaches smaller networks, on clean rows and on rows with the cue; what do they rely on?"""

    name = "distillation"
    about = "does a cue come over when theta_C is distilled, on clean data alone?"
    title = "Distilled mechanisms"
    question = (
        "theta_C relies on a cue and teaches a smaller network what it says. Does the cue come over on rows that never "
        "show it? On rows that do, do a student's effects lie between the teacher's and those of a student of labels "
        "alone, and do input gradients or features bring them nearer to the teacher's?"
    )

    def settings(self, scale: Scale, images: bool) -> DistillationSettings:
        """Digits at smoke and small scale, with or without images; VGG-13 and a small network at paper scale."""
        base = {k: v for k, v in make_base_settings("smoke", images=False).items() if k != "clean_samples"}
        if scale == "smoke":
            how: dict[str, Any] = {"epochs": 3, "batch_size": 50, "lr": 0.05}
            own: dict[str, Any] = {"rows": 300, "test_rows": 200, "seeds": (0, 1), "width": 8, "student_width": 4,
                                   "training": Training(epochs=3, batch_size=50, lr=0.1, milestones=(2,))}  # fmt: skip
        elif scale == "small":
            how = {"epochs": 8, "batch_size": 64, "lr": 0.05}
            own = {"seeds": (0, 1, 2), "width": 16, "student_width": 6}
        else:
            base = {k: v for k, v in make_base_settings("paper", images).items() if k != "clean_samples"}
            how, own = {"batch_size": 256}, {"seeds": tuple(range(5)), "student_width": 24}
        methods = {
            "KD": Distillation(**how),
            "KD + Jacobian": Distillation(**how, jacobian=3.0),
            "KD + contrastive": Distillation(**how, contrastive=1.0),
        }
        return DistillationSettings.model_validate({**base, **own, "methods": methods})

    def cells(self, settings: DistillationSettings) -> Sequence[Cell]:
        """Every seed of every dataset and proportion."""
        return list_cells(settings)

    def run_cell(
        self, context: ExperimentContext, settings: DistillationSettings, cell: Cell, root: str | None
    ) -> DistillationResult:
        """One seed: train both teachers, distil, measure."""
        return run_distillation_cell(context, settings, cell, root)

    def summarise(self, settings: DistillationSettings, results: Sequence[DistillationResult]) -> DistillationSummary:
        """Every student over the seeds."""
        return DistillationSummary(tuple(results))

    def write_findings(self, record: RunRecord) -> list[str]:
        """What the seeds say of every student."""
        found = record.summary
        return list(write_distillation(found)) if isinstance(found, DistillationSummary) else []

    def judge_claims(self, record: RunRecord) -> list[Claim]:
        """The statements of Wu et al., and whether the cue comes over from clean rows."""
        found = record.summary
        return list(judge_distillation(found)) if isinstance(found, DistillationSummary) else []


def run_distillation_cell(
    context: ExperimentContext, settings: DistillationSettings, cell: Cell, root: str | None
) -> DistillationResult:
    """Students of one seed, which start at the same fresh weights, all held against theta_C."""
    here = make_cell_context(context, settings, cell, root)
    context, task, seed = here.context, here.task, cell.seed
    shape = find_input_shape(task)
    student = choose_architecture(settings.student, settings.student_width, task.num_classes, shape)
    teachers = {
        "theta_C": train_step(context, "theta_C", task.train, settings.training, seed),
        "theta_NC": train_step(context, "theta_NC", task.clean, settings.training, derive_clean_seed(seed)),
    }
    measured = {name: measure_step(context, name, one, task.suite, settings.margin) for name, one in teachers.items()}
    first = next(iter(settings.methods))
    plain = settings.methods[first]
    labels = replace(plain, label_share=1.0, jacobian=0.0, contrastive=0.0)
    lessons = {
        LABELS_ALONE: ("theta_C", labels),
        **{name: ("theta_C", method) for name, method in settings.methods.items()},
        f"{first} of theta_NC": ("theta_NC", plain),
    }
    sources: Mapping[str, CuedSet] = {"clean": task.clean, "cued": task.train}
    students: dict[DistilledOn, dict[str, Transfer]] = {}
    for on in settings.on:
        data = sample_at_most(sources[on], settings.distilled_rows, seed)
        students[on] = {}
        for name, (teacher, method) in lessons.items():
            what = f"{name}, {on} rows"
            made = _distil_step(context, what, teachers[teacher], student, method, data, seed)
            students[on][name] = _transfer_step(context, what, teachers["theta_C"], made, student, task.suite, settings)
    return DistillationResult(cell.data.name, cell.proportion, seed, measured, students)


def _distil_step(
    context: ExperimentContext,
    what: str,
    teacher: StoredStep,
    student: Architecture,
    method: Distillation,
    data: CuedSet,
    seed: int,
) -> StoredStep:
    """A student's weights; numbers: one record an epoch."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = distill(
            context.model(teacher), student.build(derive_seed(seed, "student")), method, data,
            checkpoint=Checkpoint(folder / CHECKPOINT), seed=seed, loss=context.loss, compute=compute,
        )  # fmt: skip
        return StepOutput(describe_training(found), {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(method).settings(), "seed": seed, "student": asdict(student)}
    return context.step("distil", what, config, {"teacher": teacher.input, "data": identify(data)}, work, VERSION)


def _transfer_step(
    context: ExperimentContext,
    what: str,
    teacher: StoredStep,
    made: StoredStep,
    student: Architecture,
    suite: Suite,
    settings: DistillationSettings,
) -> Transfer:
    """The effects on a student over those on theta_C."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = measure_transfer(
            context.model(teacher), student.build_with_state(made.tensors[WEIGHTS]), suite, settings.margin,
            least=settings.least, loss=context.loss, compute=compute,
        )  # fmt: skip
        return StepOutput(found.to_dict())

    config = {"margin": settings.margin, "least": settings.least, "student": asdict(student)}
    inputs = {"teacher": teacher.input, "student": made.input, "suite": identify(suite)}
    return Transfer.from_dict(context.step("transfer", what, config, inputs, work, VERSION).numbers)
