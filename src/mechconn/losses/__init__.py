"""Losses of single rows, and the one place that decides what is a classification.

A loss gives a value for every row of a batch. It also defines how targets are read, which rows count and, where
the task is a classification, which class was predicted and which is right. Any function (outputs, targets) -> [N] is a
loss too; its task is a classification where targets are class labels [N] and outputs [N, K].
"""

from mechconn.losses._base import MEANS as MEANS
from mechconn.losses._base import NATS as NATS
from mechconn.losses._base import NO_CLASS as NO_CLASS
from mechconn.losses._base import Classified as Classified
from mechconn.losses._base import Each as Each
from mechconn.losses._base import Loss as Loss
from mechconn.losses._base import find_loss_unit as find_loss_unit
from mechconn.losses._joined_classes import JoinedClasses as JoinedClasses
from mechconn.losses._loss_advice import explain_labels_out_of_range as explain_labels_out_of_range
from mechconn.losses._loss_advice import explain_not_per_sample as explain_not_per_sample
from mechconn.losses._loss_config import AnyLoss as AnyLoss
from mechconn.losses._loss_config import read_loss as read_loss
from mechconn.losses._position_losses import OverPositions as OverPositions
from mechconn.losses._position_losses import over_positions as over_positions
from mechconn.losses._resolve_loss import OwnLoss as OwnLoss
from mechconn.losses._resolve_loss import as_loss as as_loss
from mechconn.losses._row_losses import Absolute as Absolute
from mechconn.losses._row_losses import Binary as Binary
from mechconn.losses._row_losses import CrossEntropy as CrossEntropy
from mechconn.losses._row_losses import Squared as Squared
from mechconn.losses._row_losses import absolute as absolute
from mechconn.losses._row_losses import binary as binary
from mechconn.losses._row_losses import cross_entropy as cross_entropy
from mechconn.losses._row_losses import squared as squared

__all__ = [
    "Absolute",
    "Binary",
    "Classified",
    "CrossEntropy",
    "JoinedClasses",
    "Loss",
    "OverPositions",
    "Squared",
    "absolute",
    "binary",
    "cross_entropy",
    "over_positions",
    "read_loss",
    "squared",
]
