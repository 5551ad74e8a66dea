"""Image sets, texts and tables, cues on them, and suites of interventions."""

from mechconn.datasets._class_folders import ALL as ALL
from mechconn.datasets._class_folders import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from mechconn.datasets._clusters import ClusterLabels as ClusterLabels
from mechconn.datasets._clusters import Clusters as Clusters
from mechconn.datasets._clusters import check_label_count as check_label_count
from mechconn.datasets._clusters import read_clusters as read_clusters
from mechconn.datasets._clusters import select_labels as select_labels
from mechconn.datasets._column_names import find_texts as find_texts
from mechconn.datasets._column_names import list_columns as list_columns
from mechconn.datasets._column_names import names_texts as names_texts
from mechconn.datasets._column_values import find_fraction as find_fraction
from mechconn.datasets._column_values import holds_fractions as holds_fractions
from mechconn.datasets._columns import load_column as load_column
from mechconn.datasets._columns import load_full_columns as load_full_columns
from mechconn.datasets._cue import Cue as Cue
from mechconn.datasets._cue import DataPlace as DataPlace
from mechconn.datasets._cue import make_cue as make_cue
from mechconn.datasets._cue import read_cue as read_cue
from mechconn.datasets._cues import BoxCue as BoxCue
from mechconn.datasets._cues import DominoesCue as DominoesCue
from mechconn.datasets._cues import HueBoxCue as HueBoxCue
from mechconn.datasets._delimited import Quoting as Quoting
from mechconn.datasets._digits import digits as digits
from mechconn.datasets._group_names import Groups as Groups
from mechconn.datasets._group_names import Labels as Labels
from mechconn.datasets._group_names import check_no_fractions as check_no_fractions
from mechconn.datasets._group_names import find_columns as find_columns
from mechconn.datasets._group_names import natural_sort_key as natural_sort_key
from mechconn.datasets._group_names import read_group_names as read_group_names
from mechconn.datasets._group_names import read_row_values as read_row_values
from mechconn.datasets._images import ImageSet as ImageSet
from mechconn.datasets._images import to_bytes as to_bytes
from mechconn.datasets._label_names import LabelNames as LabelNames
from mechconn.datasets._label_names import check_label_names as check_label_names
from mechconn.datasets._label_names import match_names as match_names
from mechconn.datasets._label_names import read_class_names as read_class_names
from mechconn.datasets._label_names import read_output_names as read_output_names
from mechconn.datasets._label_names import write_output_names as write_output_names
from mechconn.datasets._links import find_links as find_links
from mechconn.datasets._links import join_groups as join_groups
from mechconn.datasets._links import link_rows as link_rows
from mechconn.datasets._load import DATASET_NAMES as DATASET_NAMES
from mechconn.datasets._load import ROOT_VARIABLE as ROOT_VARIABLE
from mechconn.datasets._load import explain_missing_source as explain_missing_source
from mechconn.datasets._load import find_splits as find_splits
from mechconn.datasets._load import has_split as has_split
from mechconn.datasets._load import load as load
from mechconn.datasets._load import looks_like_hub as looks_like_hub
from mechconn.datasets._load_text import load_text as load_text
from mechconn.datasets._masks import load_masks as load_masks
from mechconn.datasets._normalised import Normalised as Normalised
from mechconn.datasets._output_tables import load_outputs as load_outputs
from mechconn.datasets._output_tables import save_outputs as save_outputs
from mechconn.datasets._outputs import ModelOutputs as ModelOutputs
from mechconn.datasets._outputs import represent_on_split as represent_on_split
from mechconn.datasets._outputs import represent_on_suite as represent_on_suite
from mechconn.datasets._outputs import represent_pair_on_suite as represent_pair_on_suite
from mechconn.datasets._placebo import Placebo as Placebo
from mechconn.datasets._planted import Planted as Planted
from mechconn.datasets._planted import PlantedCue as PlantedCue
from mechconn.datasets._planted import PlantedSet as PlantedSet
from mechconn.datasets._read_options import Layout as Layout
from mechconn.datasets._same_rows import SameRows as SameRows
from mechconn.datasets._saved_folders import is_saved_folder as is_saved_folder
from mechconn.datasets._selection import Selection as Selection
from mechconn.datasets._selection import compare_selection as compare_selection
from mechconn.datasets._selection import find_selection as find_selection
from mechconn.datasets._selection import select_observed_rows as select_observed_rows
from mechconn.datasets._show_examples import show_examples as show_examples
from mechconn.datasets._splits import FILE_SUFFIXES as FILE_SUFFIXES
from mechconn.datasets._splits import find_labels as find_labels
from mechconn.datasets._splits import load_splits as load_splits
from mechconn.datasets._strips import make_strips as make_strips
from mechconn.datasets._suite import CuedSet as CuedSet
from mechconn.datasets._suite import Suite as Suite
from mechconn.datasets._suite import check_interventions as check_interventions
from mechconn.datasets._suite import make_cue_suite as make_cue_suite
from mechconn.datasets._suite import make_cued_set as make_cued_set
from mechconn.datasets._task import CueTask as CueTask
from mechconn.datasets._task import cue_task as cue_task
from mechconn.datasets._task import find_cues as find_cues
from mechconn.datasets._text_tables import JSON_SUFFIXES as JSON_SUFFIXES
from mechconn.datasets._text_tables import list_text_splits as list_text_splits
from mechconn.datasets._token_cue import TokenCue as TokenCue
from mechconn.datasets._tokenizer import TextTokenizer as TextTokenizer
from mechconn.datasets._tokenizer import explain_different_tokenizers as explain_different_tokenizers
from mechconn.datasets._tokenizer import find_tokenizer_folder as find_tokenizer_folder
from mechconn.datasets._tokenizer import holds_tokenizer as holds_tokenizer
from mechconn.datasets._tokenizer import read_tokenizer as read_tokenizer
from mechconn.datasets._tokens import TokenSet as TokenSet

__all__ = [
    "Cue",
    "CueTask",
    "DataPlace",
    "ImageSet",
    "Normalised",
    "Planted",
    "PlantedCue",
    "PlantedSet",
    "TokenSet",
    "cue_task",
    "digits",
    "load",
    "load_column",
    "load_masks",
    "load_splits",
    "load_text",
    "make_cue",
]
