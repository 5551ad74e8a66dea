"""Cross-entropy over classes that join outputs of a network, such as the two of HANS from the three of MNLI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mechconn.core import check_choice, check_whole, move_tensor
from mechconn.losses._base import NATS, NO_CLASS, Classified, Loss
from mechconn.losses._loss_advice import explain_unfit_targets
from mechconn.losses._row_losses import cross_entropy

DECISIONS = ("largest", "sum")


@dataclass(frozen=True)
class JoinedClasses(Loss, name="joined_classes"):
    r"""Cross-entropy in nats over classes j that each join some outputs P_j of a network of K logits z [N, K].

        p_j = sum_{k in P_j} softmax(z)_k,        l = -log p_y

    Labels are the j, in the order of `parts`. By decide="largest" the class is the one that the largest output belongs
    to, as HANS is scored; by "sum" it is the one of largest p_j.

    Attributes:
        parts: for each class the outputs that it joins; together they are 0 ... K - 1, each once.
        decide: "largest" or "sum".

    Raises:
        ValueError: fewer than two classes, an output in no class or in several.

    Example:
        Outputs in the order entailment, neutral, contradiction; HANS has the labels entailment and non-entailment.

        >>> hans = JoinedClasses(parts=((0,), (1, 2)))
        >>> z = torch.tensor([[0.4, 0.3, 0.3], [0.2, 0.5, 0.3]]).log()
        >>> hans(z, torch.tensor([0, 1])).neg().exp(), hans.classify(z, torch.tensor([0, 1])).predicted.tolist()
        (tensor([0.4000, 0.8000]), [0, 1])

    Source: McCoy et al. 2019 (neutral and contradiction are translated to non-entailment).
    """

    unit: ClassVar[str] = NATS

    parts: tuple[tuple[int, ...], ...]
    decide: Literal["largest", "sum"] = "largest"

    def __post_init__(self) -> None:
        check_choice("decide", self.decide, DECISIONS)
        listed = isinstance(self.parts, tuple | list) and all(isinstance(part, tuple | list) for part in self.parts)
        if not listed:
            raise TypeError(f"parts must be a list of the outputs of each class, as ((0,), (1, 2)), got {self.parts!r}")
        parts = tuple(tuple(check_whole("an output in parts", output) for output in part) for part in self.parts)
        every = sorted(output for part in parts for output in part)
        if len(parts) < 2 or not all(parts) or every != list(range(len(every))):
            raise ValueError(
                f"parts must be two classes or more that share out the outputs 0 ... K - 1, each once, got {parts}"
            )
        object.__setattr__(self, "parts", parts)

    def joins(self) -> tuple[tuple[int, ...], ...]:
        """The outputs of each class."""
        return self.parts

    def describe(self) -> dict[str, Any]:
        """A table of its name and options, in plain lists."""
        found = super().describe()
        assert isinstance(found, dict)
        return {**found, "parts": [list(part) for part in self.parts]}

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log of the probability of all outputs of the class: [N, K], [N] -> [N]."""
        return cross_entropy(self._join(outputs, targets), targets)

    def classify(self, outputs: Tensor, targets: Tensor) -> Classified | None:
        """The class of the largest output, or of the largest sum; None where targets are no labels."""
        joined = self._join(outputs, targets)
        found = cross_entropy.classify(joined, targets)
        if found is None or self.decide == "sum":
            return found
        place = torch.empty(outputs.shape[1], dtype=torch.long)
        for number, part in enumerate(self.parts):
            place[list(part)] = number
        predicted = move_tensor(place, outputs.device)[outputs.argmax(1)].masked_fill(outputs.isnan().any(1), NO_CLASS)
        return Classified(predicted, found.labels, len(self.parts))

    def probabilities(self, outputs: Tensor) -> bool:
        """As `CrossEntropy` of all outputs."""
        return cross_entropy.probabilities(outputs)

    def find_probabilities(self, outputs: Tensor) -> Tensor | None:
        """The same as a single bool where the outputs are."""
        return cross_entropy.find_probabilities(outputs)

    def _join(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The logits of the classes, [N, classes]."""
        if outputs.dim() != 2:
            raise ValueError(explain_unfit_targets("a loss over joined classes", "outputs [N, K]", outputs, targets))
        count = sum(map(len, self.parts))
        if outputs.shape[1] != count:
            raise ValueError(
                f"parts shares out {count} outputs, but the network gives {outputs.shape[1]}; name each output once"
            )
        chosen = [move_tensor(torch.tensor(part), outputs.device) for part in self.parts]
        return torch.stack([outputs[:, part].logsumexp(1) for part in chosen], 1)
