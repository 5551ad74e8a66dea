"""Fine-tuning: naively, on the head alone, against environments, or so that the mechanism changes (CBFT)."""

from mechconn._finetune._cbft import CBFT as CBFT
from mechconn._finetune._environments import IRM as IRM
from mechconn._finetune._environments import ConvexCombination as ConvexCombination
from mechconn._finetune._environments import GroupDRO as GroupDRO
from mechconn._finetune._environments import VREx as VREx
from mechconn._finetune._fine_tune import fine_tune as fine_tune
from mechconn._finetune._last_layer import DFR as DFR
from mechconn._finetune._last_layer import LPFT as LPFT
from mechconn._finetune._last_layer import LastLayerRetraining as LastLayerRetraining
from mechconn._finetune._naive import NaiveFineTuning as NaiveFineTuning
from mechconn._finetune._naive import Scratch as Scratch
