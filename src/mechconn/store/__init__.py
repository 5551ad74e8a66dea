"""Results on disk: plain files, each step written whole or not at all, found again by what it was made from."""

from mechconn.store._disk_errors import DiskFullError as DiskFullError
from mechconn.store._sealed import DamagedError as DamagedError
from mechconn.store._step_files import StepOutput as StepOutput
from mechconn.store._step_files import StoredStep as StoredStep
from mechconn.store._step_identity import StepIdentity as StepIdentity
from mechconn.store._step_identity import StepInput as StepInput
from mechconn.store._store import Store as Store
