"""Results on disk: plain files, each step written whole or not at all, found again by what it was made from."""

from mechconn.store._folders import DiskFullError as DiskFullError
from mechconn.store._identity import Input as Input
from mechconn.store._identity import Step as Step
from mechconn.store._run_records import CellRecord as CellRecord
from mechconn.store._run_records import RunRecord as RunRecord
from mechconn.store._step_files import Made as Made
from mechconn.store._step_files import Stored as Stored
from mechconn.store._store import Store as Store
from mechconn.store._store import no_runs_text as no_runs_text
