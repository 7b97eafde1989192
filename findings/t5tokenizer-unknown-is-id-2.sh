#!/bin/sh
# transformers 5.23.0: T5Tokenizer gives unknown pieces the id 2, whatever the sentencepiece model says.
#
# Expected: a folder with a sentencepiece model whose <unk> is 0, <s> 1 and </s> 2, which is the order
#   that sentencepiece gives by default (Japanese GPT-2s have such folders with T5Tokenizer), encodes a
#   character that it does not know as 0, as sentencepiece 0.2.2 does itself.
# Seen: tokenizer.unk_token_id is 0, and yet the unknown character becomes 2, which here is </s>: a text
#   that ends in its middle, without a word. T5's own models have <unk> at 2, where it does not show.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 sentencepiece==0.2.2 protobuf==7.36.2
cat > "$folder/trial.py" <<'PROGRAM'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import sentencepiece
from transformers import AutoTokenizer

place = Path(sys.argv[1])
place.mkdir()
text = place / "text.txt"
text.write_text("the old man and the sea\nthe sea and the old man\na man\n" * 20)
sentencepiece.SentencePieceTrainer.train(
    input=str(text),
    model_prefix=str(place / "spiece"),
    vocab_size=18,
    hard_vocab_limit=False,
    model_type="unigram",
    minloglevel=2,
)
(place / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
(place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
own = sentencepiece.SentencePieceProcessor(model_file=str(place / "spiece.model"))
tokenizer = AutoTokenizer.from_pretrained(place)
print("transformers", version("transformers"), type(tokenizer).__name__)
print("sentencepiece:", own.unk_id(), "is", own.id_to_piece(own.unk_id()), own.encode("the Q man"))
found = tokenizer.encode("the Q man", add_special_tokens=False)
print("T5Tokenizer:  ", tokenizer.unk_token_id, "is", tokenizer.unk_token, found)
print("its tokens:   ", tokenizer.convert_ids_to_tokens(found))
seen = own.unk_id() == tokenizer.unk_token_id == 0 and 0 not in found and 2 in found
if not (seen and tokenizer.convert_ids_to_tokens(2) == "</s>"):
    print("changed")
    sys.exit(1)
PROGRAM
"$folder/venv/bin/python" "$folder/trial.py" "$folder/model" 2>&1
