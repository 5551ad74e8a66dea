"""The training engine: methods, the loop, checkpoints, several processes, the head, fresh weights."""

from mechconn.descent._checkpoint import Checkpoint as Checkpoint
from mechconn.descent._fresh_weights import draw_fresh_state as draw_fresh_state
from mechconn.descent._head import find_head as find_head
from mechconn.descent._head import record_head_calls as record_head_calls
from mechconn.descent._loop import DescentEngine as DescentEngine
from mechconn.descent._loop import find_trainable as find_trainable
from mechconn.descent._master_weights import MasterWeights as MasterWeights
from mechconn.descent._method import EVALUATED as EVALUATED
from mechconn.descent._method import Batch as Batch
from mechconn.descent._method import Descend as Descend
from mechconn.descent._method import Descent as Descent
from mechconn.descent._method import Method as Method
from mechconn.descent._method import Objective as Objective
from mechconn.descent._method import Problem as Problem
from mechconn.descent._method import Records as Records
from mechconn.descent._method import TrainingStep as TrainingStep
from mechconn.descent._method import compute_clean_loss as compute_clean_loss
from mechconn.descent._method import find_taken_epoch as find_taken_epoch
from mechconn.descent._method import make_validation_loss as make_validation_loss
from mechconn.descent._method import require_cued_data as require_cued_data
from mechconn.descent._optimisers import Adam as Adam
from mechconn.descent._optimisers import AdamW as AdamW
from mechconn.descent._optimisers import AnyOptimizer as AnyOptimizer
from mechconn.descent._optimisers import check_nameable as check_nameable
from mechconn.descent._optimisers import describe_optimiser as describe_optimiser
from mechconn.descent._schedule import ConstantSchedule as ConstantSchedule
from mechconn.descent._schedule import CosineSchedule as CosineSchedule
from mechconn.descent._schedule import DefaultRate as DefaultRate
from mechconn.descent._schedule import Schedule as Schedule
from mechconn.descent._schedule import drop_momentum as drop_momentum
from mechconn.descent._schedule import settle_optimiser as settle_optimiser
from mechconn.descent._training import Trained as Trained
from mechconn.descent._training import Training as Training
from mechconn.descent._training import count_samples as count_samples
from mechconn.descent._training import optimise as optimise
from mechconn.descent._training import train as train

__all__ = [
    "Adam",
    "AdamW",
    "Batch",
    "ConstantSchedule",
    "CosineSchedule",
    "DefaultRate",
    "Descend",
    "Descent",
    "Method",
    "Objective",
    "Problem",
    "Records",
    "Schedule",
    "TrainingStep",
    "compute_clean_loss",
    "draw_fresh_state",
    "find_head",
    "find_taken_epoch",
    "record_head_calls",
    "require_cued_data",
]
