#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer of a folder that names BERT in config.json and holds no vocabulary file.
# Expected: an error that no vocabulary file was found.
# Seen: a tokenizer of the five special tokens alone, for which every word is [UNK]; no error, no warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import json
import os
import warnings

import transformers

os.mkdir("model")
with open("model/config.json", "w") as file:
    json.dump({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, file)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    tokenizer = transformers.AutoTokenizer.from_pretrained("model", local_files_only=True)
ids = tokenizer("a fine film", add_special_tokens=False)["input_ids"]
print("transformers", transformers.__version__, len(tokenizer), ids, tokenizer.unk_token_id, [str(w.message) for w in seen])
assert len(tokenizer) == 5 and ids == [tokenizer.unk_token_id] * 3 and not seen
PY
