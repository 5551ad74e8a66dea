"""Fine-tuning: CBFT and its rivals."""

from mechconn.tuning._cbft import CBFT as CBFT
from mechconn.tuning._connected import ConnectedFineTuning as ConnectedFineTuning
from mechconn.tuning._environments import IRM as IRM
from mechconn.tuning._environments import ConvexCombination as ConvexCombination
from mechconn.tuning._environments import GroupDRO as GroupDRO
from mechconn.tuning._environments import VREx as VREx
from mechconn.tuning._feature_reweighting import AFR as AFR
from mechconn.tuning._fine_tune import fine_tune as fine_tune
from mechconn.tuning._fresh_start import FreshBlocks as FreshBlocks
from mechconn.tuning._fresh_start import ShrinkAndPerturb as ShrinkAndPerturb
from mechconn.tuning._hard_probe import HardProbe as HardProbe
from mechconn.tuning._just_train_twice import JTT as JTT
from mechconn.tuning._last_layer import DFR as DFR
from mechconn.tuning._last_layer import LastLayerRetraining as LastLayerRetraining
from mechconn.tuning._latent_adversarial import LatentAdversarial as LatentAdversarial
from mechconn.tuning._naive_fine_tuning import NaiveFineTuning as NaiveFineTuning
from mechconn.tuning._naive_fine_tuning import Scratch as Scratch
from mechconn.tuning._path_aware import PathAware as PathAware
from mechconn.tuning._path_repair import PathRepair as PathRepair
from mechconn.tuning._probe_then_tune import LPFT as LPFT
from mechconn.tuning._project_and_probe import Pro2 as Pro2
from mechconn.tuning._undo import UNDO as UNDO
