#!/bin/sh
# transformers 5.23.0: AutoTokenizer does not use the tokenizer.json of a GPT-2 whose class no file names.
#
# Expected: a GPT-2 (model_type gpt2) with a tokenizer.json of WordPiece and no tokenizer_config.json gets
#   the tokenizer that the file describes, as the tokenizers library itself and transformers 4.57.6 do. Chinese
#   GPT-2s have such vocabularies.
# Seen: it takes GPT-2's class, which makes a byte-level BPE of its own in place of the file's model: its
#   ids are none at all, without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/trial.py" <<'PROGRAM'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

place = Path(sys.argv[1])
place.mkdir(exist_ok=True)
words = ["[UNK]", "today", "is", "fine", "\u4eca", "\u5929", "\u597d"]
file = Tokenizer(models.WordPiece({word: id for id, word in enumerate(words)}, unk_token="[UNK]"))
file.normalizer = normalizers.BertNormalizer()
file.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
file.decoder = decoders.WordPiece()
file.save(str(place / "tokenizer.json"))
config = {"model_type": "gpt2", "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 0}
(place / "config.json").write_text(json.dumps(config))
tokenizer = AutoTokenizer.from_pretrained(place)
print("transformers", version("transformers"), "tokenizers", version("tokenizers"))
print("class:", type(tokenizer).__name__)
found = []
for text in ("today is fine", "\u4eca\u5929\u597d"):
    ids = file.encode(text).ids
    found.append((ids, tokenizer.encode(text)))
    print(ascii(text), "tokenizer.json:", ids, "AutoTokenizer:", found[-1][1])
same = all(left == right for left, right in found)
lost = all(left and not right for left, right in found)
if not (same if sys.argv[2] == "same" else lost):
    print("changed")
    sys.exit(1)
PROGRAM
for case in "4.57.6 same" "5.23.0 lost"; do
    set -- $case
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "transformers==$1"
    "$folder/$1/bin/python" "$folder/trial.py" "$folder/model" "$2" 2>/dev/null
done
