"""The labels of rows, for methods that fit a classifier or ask a model which rows it gets wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechconn.descent import Problem
from mechconn.losses import Classified, explain_labels_out_of_range


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Features of the rows that count, with their labels.

    Attributes:
        z: features [n, d].
        y: labels, whole numbers below `classes`.
        classes: number of classes.
        counted: which of all rows count.
    """

    z: Float[Tensor, "n d"]
    y: Int[Tensor, " n"]
    classes: int
    counted: Bool[Tensor, " _"]

    def check_classes(self, method: str) -> None:
        """Raise where a class has no row."""
        if missing := sorted(set(range(self.classes)) - set(self.y.tolist())):
            raise ValueError(
                f"{method} fits a classifier of {self.classes} classes to the clean data, which lack "
                f"{', '.join(map(str, missing))}; give samples of each"
            )


def read_labels(method: str, problem: Problem, layer: nn.Linear, z: Tensor, y: Tensor) -> LabelledRows:
    """The rows that count.

    Raises:
        ValueError: the task is no classification of whole rows, or a label names no output.
    """
    with torch.no_grad():
        found = problem.loss.classify(layer(z), y)
    if found is None or found.each != "rows":
        shape, outputs = f"{str(y.dtype).removeprefix('torch.')}{list(y.shape)}", layer.out_features
        raise ValueError(
            f"{method} is logistic regression: it needs whole-number targets [N] and a head with an output for each "
            f"class, got targets {shape} and {outputs} outputs"
        )
    counted = problem.rows_counted(y).bool()
    labels = found.labels[counted]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < found.classes:
        raise ValueError(explain_labels_out_of_range(labels, found.classes, "rows", "CrossEntropy"))
    return LabelledRows(z[counted], labels, found.classes, counted)


def classify_rows(method: str, problem: Problem, outputs: Tensor, targets: Tensor) -> Classified:
    """What is predicted for whole rows, and what is right.

    Raises:
        ValueError: the task is no classification of whole rows.
    """
    found = problem.loss.classify(outputs.detach(), targets)
    if found is None or found.each != "rows":
        kind = str(targets.dtype).removeprefix("torch.")
        raise ValueError(
            f"{method} asks what whole rows are classified as: it needs whole-number targets [N] and outputs [N, K], "
            f"or one logit a row, got outputs {list(outputs.shape)} and targets {kind}{list(targets.shape)}"
        )
    return found


def compute_log_probabilities(outputs: Tensor) -> Float[Tensor, "n k"]:
    """log softmax of the outputs of each row; one logit z counts as two, 0 and z."""
    logits = outputs.reshape(len(outputs), -1)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return logits.log_softmax(1)
