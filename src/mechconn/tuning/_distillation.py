"""How a teacher is distilled into a student: the weights of the loss terms, and the schedule."""

from __future__ import annotations

from dataclasses import dataclass

from mechconn.core import check_count, check_fraction, check_non_negative, check_positive
from mechconn.descent import CosineSchedule, DefaultRate


@dataclass(frozen=True, kw_only=True)
class Distillation(CosineSchedule):
    r"""Loss and schedule of `distill`: soft targets, and where asked for input gradients and features.

    Over the rows of a batch, s the student and t the teacher, p = softmax(outputs / T),

        label_share L(s, y) + (1 - label_share) T^2 KL(p_t || p_s) + jacobian L_J + contrastive L_C,

        L_J = mean_i || n(d s_k / d x_i) - n(d t_k / d x_i) ||^2,    k the class that the teacher gives row i,
        L_C = -1/2 mean_i [ log softmax_j(c_ij) + log softmax_j(c_ji) ]_(j = i),    c_ij = n(P z_i) . n(Q w_j) / tau,

    n() scaling a row to unit length, z and w what the heads of student and teacher receive, P and Q linear maps to
    `projection` numbers that are trained beside the student and thrown away. T^2 keeps the gradient of soft targets at
    the size of that of labels (Hinton et al. 2015). With `label_share=0` no label is read.

    One logit z counts as two outputs, 0 and z, in the soft targets, and its classes have the scores z and -z in L_J. A
    row where the teacher's gradient is zero has no direction and does not count in L_J; where the student's is zero,
    n() is zero there. L_J is of the same pass as the rest: a student whose layers normalise over a batch has the
    gradient of the sum of its scores over the batch. In L_C every other row of a batch is a negative, those of a row's
    own class too; of several processes each sees its own share.

    Attributes:
        temperature: T.
        label_share: weight of the true labels' loss, in [0, 1]; the other terms do not shrink with it but for the soft
            targets. 1 trains on labels alone, a control.
        jacobian: weight of L_J; it needs inputs that are numbers, and second derivatives: about three passes more.
        contrastive: weight of L_C.
        contrast_temperature: tau.
        projection: numbers that features are projected to.

    Source: Hinton et al. 2015; Srinivas & Fleuret 2018 (L_J, normalised); Tian et al. 2020 (L_C, here with a batch's
    own rows as negatives in the place of a memory); all three compared by Wu et al. 2024, whose weights are not known.
    """

    epochs: int = 100
    lr: float = DefaultRate(0.1)
    temperature: float = 4.0
    label_share: float = 0.1
    jacobian: float = 0.0
    contrastive: float = 0.0
    contrast_temperature: float = 0.1
    projection: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("temperature", self.temperature)
        check_fraction("label_share", self.label_share)
        check_non_negative("jacobian", self.jacobian)
        check_non_negative("contrastive", self.contrastive)
        check_positive("contrast_temperature", self.contrast_temperature)
        check_count("projection", self.projection)
