#!/usr/bin/env bash
# transformers 5.23.0: a configuration that names its classes by label2id alone loses the names.
# Expected: id2label is the inverse of label2id, since either tells the other.
# Seen: id2label is {0: LABEL_0, 1: LABEL_1}, and label2id itself is overwritten with these, without a warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.23.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json
import pathlib

import transformers

names = {"negative": 0, "positive": 1}
folder = pathlib.Path("reader")
folder.mkdir()
(folder / "config.json").write_text(json.dumps({"model_type": "bert", "label2id": names}))
config = transformers.AutoConfig.from_pretrained(folder)
print("transformers", transformers.__version__, "id2label", config.id2label, "label2id", config.label2id)
assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}
PY
