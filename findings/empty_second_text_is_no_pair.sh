#!/usr/bin/env bash
# transformers 5.23.0 with tokenizers: a fast tokenizer with a template for pairs, given a text and an empty second text.
# Expected: the same ids from tokenizer(text, "") and from tokenizer([text], [""]): the pair format, its second part empty.
# Seen: a single call drops the second text and gives the format of one text; the call with lists gives that of a pair.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

own = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "good": 3, "film": 4}, unk_token="[UNK]"))
own.pre_tokenizer = pre_tokenizers.Whitespace()
own.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
)
fast = transformers.PreTrainedTokenizerFast(tokenizer_object=own, unk_token="[UNK]")
one = fast("good film", "")["input_ids"]
listed = fast(["good film"], [""])["input_ids"][0]
filled = fast("good film", "film")["input_ids"]
print("transformers", transformers.__version__, {"single": one, "listed": listed, "filled": filled})
assert filled == [1, 3, 4, 2, 4, 2] and listed == [1, 3, 4, 2, 2] and one == [1, 3, 4, 2]
PY
