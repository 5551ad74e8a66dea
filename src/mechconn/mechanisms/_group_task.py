"""What groups of rows are asked of two networks of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from mechconn.datasets import Groups


@dataclass(frozen=True, eq=False)
class GroupTask:
    """Groups in which `audit` measures how often both networks are right. See `measure_groups`.

    Attributes:
        groups: a label for each row of the split, or several columns of them in a mapping. Labels of the data that a
            split's rows were selected from (`split_by_agreement`, `split_by_group`) stand for the rows selected.
        split: a split of the suite, or several whose rows count together, such as ("agree", "conflict"); None: the
            reference.
        train_groups: the same of the training data, for the reweighted mean.
        overlapping: whether the columns are marks, of which a row may have several; a group is one mark with one class.
    """

    groups: Groups
    split: str | tuple[str, ...] | None = None
    train_groups: Groups | None = None
    overlapping: bool = False
