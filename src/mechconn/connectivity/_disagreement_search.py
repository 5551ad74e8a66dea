"""How a model that disagrees is looked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mechconn.core import check_count, check_positive


@dataclass(frozen=True, kw_only=True)
class DisagreementSearch:
    r"""Adam on the weights, pulled towards other answers on the rows and held by the loss on the data.

        minimise  - mean_rows u(f(x; theta')) + c L(theta'),        L the mean loss on a batch of the data

    There is one search for each pull u. Of a classification these are the log-probabilities of each class, as in the
    source, and those of each row's second class; else the sum of the outputs, and its negative. c doubles where a check
    finds the loss on all data above what is allowed, and is halved where it does not. In the source c grows by a
    schedule, and its code takes no notice of the allowed loss. At last the line from the model through the point
    reached is followed as far as the loss allows. Of all points checked the one counts whose answers differ most among
    those that are allowed.

    Attributes:
        tolerance: by how much the mean loss on the data may rise, in the units of the loss; the source's gamma.
        steps: of each search.
        lr: of Adam.
        batch_size: rows of a batch of the data, and of the rows where there are more.
        penalty: c at first.
        check_every: steps between two checks.

    Source: Schweighofer et al. 2023, *Quantification of uncertainty with adversarial models*.
    """

    tolerance: float = 0.01
    steps: int = 200
    lr: float = 1e-3
    batch_size: int = 128
    penalty: float = 1.0
    check_every: int = 20

    def __post_init__(self) -> None:
        for name in ("tolerance", "lr", "penalty"):
            check_positive(name, getattr(self, name))
        for name in ("steps", "batch_size", "check_every"):
            check_count(name, getattr(self, name))

    def settings(self) -> dict[str, Any]:
        """Every setting: plain values."""
        return asdict(self)
