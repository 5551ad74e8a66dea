#!/usr/bin/env bash
# peft 0.21.2: save_pretrained of an adapter whose base has a name that is no local folder.
# Expected: writing an adapter to a local folder needs no other file than those that are written.
# Seen: it looks up config.json of the base on the hub, to compare the vocabulary's size, and warns where the hub cannot be reached.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import warnings

import peft
import transformers
from peft.utils import other, save_and_load

config = transformers.BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
model = peft.get_peft_model(
    transformers.BertForSequenceClassification(config), peft.LoraConfig(r=2, target_modules=["query"])
)
model.peft_config["default"].base_model_name_or_path = "some/base"
asked = []
save_and_load.check_file_exists_on_hf_hub = lambda name, file, **_: asked.append((name, file))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    model.save_pretrained("adapter")
told = [str(w.message) for w in seen if "config file" in str(w.message)]
print("peft", peft.__version__, asked, told)
assert asked == [("some/base", "config.json")] and "will assume that the vocabulary was not modified" in told[0]
PY
