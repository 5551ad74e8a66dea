"""Results on disk: plain files, each step written whole or not at all, found again by what it was made from."""

from mechconn._store._identity import Input as Input
from mechconn._store._identity import Step as Step
from mechconn._store._records import CellRecord as CellRecord
from mechconn._store._records import RunRecord as RunRecord
from mechconn._store._records import StepRecord as StepRecord
from mechconn._store._step_files import Made as Made
from mechconn._store._step_files import Stored as Stored
from mechconn._store._store import Store as Store

__all__ = ["CellRecord", "Input", "Made", "RunRecord", "Step", "StepRecord", "Store", "Stored"]
