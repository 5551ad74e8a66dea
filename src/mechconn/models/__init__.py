"""Networks: those of the source, small ones, and any with weights from a file."""

from mechconn.models._adapter_folder import is_adapter_folder as is_adapter_folder
from mechconn.models._adapter_folder import list_adapter_files as list_adapter_files
from mechconn.models._adapter_folder import read_adapter_config as read_adapter_config
from mechconn.models._adapter_folder import read_adapter_tensors as read_adapter_tensors
from mechconn.models._file_kinds import check_weights_there as check_weights_there
from mechconn.models._load_model import find_base_source as find_base_source
from mechconn.models._load_model import load_base as load_base
from mechconn.models._load_model import load_model as load_model
from mechconn.models._merge_origin import MERGE_RECORD as MERGE_RECORD
from mechconn.models._merge_origin import MergeOrigin as MergeOrigin
from mechconn.models._merge_origin import is_merged_folder as is_merged_folder
from mechconn.models._merge_origin import read_merge_origin as read_merge_origin
from mechconn.models._save_network import save_network as save_network
from mechconn.models._small import build_seeded as build_seeded
from mechconn.models._small import small_convnet as small_convnet
from mechconn.models._stored_weights import hash_weights as hash_weights
from mechconn.models._stored_weights import open_stored_tensors as open_stored_tensors
from mechconn.models._torch_files import StoredTensor as StoredTensor
from mechconn.models._vgg_resnet import BasicBlock as BasicBlock
from mechconn.models._vgg_resnet import resnet18 as resnet18
from mechconn.models._vgg_resnet import vgg13 as vgg13
from mechconn.models._weight_files import BESIDE as BESIDE
from mechconn.models._weight_files import hash_weight_files as hash_weight_files
from mechconn.models._weight_files import list_candidates as list_candidates
from mechconn.models._weight_files import list_weight_files as list_weight_files

__all__ = ["resnet18", "small_convnet", "vgg13"]
