#!/bin/sh
# transformers 5.23.0: BertTokenizer of a folder without vocab.txt has five tokens, and says nothing.
#
# Expected: a folder whose tokenizer_config.json names BertTokenizer, and whose vocab.txt did not come
#   along, is an error that names the file, as in transformers 4.57.6.
# Seen: AutoTokenizer gives a tokenizer of [PAD], [UNK], [CLS], [SEP] and [MASK]. Every word of every text
#   is [UNK], so a model runs and writes as if nothing were wrong.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/trial.py" <<'PROGRAM'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from transformers import AutoTokenizer

place = Path(sys.argv[1])
place.mkdir(exist_ok=True)
(place / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 21128}))
settings = {"tokenizer_class": "BertTokenizer"}
(place / "tokenizer_config.json").write_text(json.dumps(settings))
print("transformers", version("transformers"))
try:
    tokenizer = AutoTokenizer.from_pretrained(place)
except Exception as error:
    seen = "refused"
    print(type(error).__name__)
else:
    ids = tokenizer.encode("today is fine", add_special_tokens=False)
    seen = "unknown" if set(ids) == {tokenizer.unk_token_id} else "other"
    print(type(tokenizer).__name__, "of", tokenizer.vocab_size, "tokens:", sorted(tokenizer.vocab))
    print("'today is fine' is", tokenizer.convert_ids_to_tokens(ids))
if seen != sys.argv[2]:
    print("changed")
    sys.exit(1)
PROGRAM
for case in "4.57.6 refused" "5.23.0 unknown"; do
    set -- $case
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "transformers==$1"
    "$folder/$1/bin/python" "$folder/trial.py" "$folder/model" "$2" 2>/dev/null
done
