#!/bin/sh
# tokenizers 0.23.3: the Precompiled normalizer writes another text than sentencepiece's character map.
#
# Expected: the normalizer is there to do what sentencepiece does with the same map: the longest rule
#   that fits at each place. Half-width kana with a voiced mark, which are common in Japanese, become
#   one full-width letter, and a letter with a combining mark is composed.
# Seen: a cluster of fewer than six bytes is rewritten as a whole by its shortest rule, and in longer
#   ones each character alone. So the mark is not composed, and texts get other ids than the model
#   was trained on: with a Japanese GPT-2's vocabulary 222 of 2000 odd texts.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2
cat > "$folder/trial.py" <<'PROGRAM'
import io
import sys
from importlib.metadata import version

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers.normalizers import Precompiled

found = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a man and the sea"] * 9),
    model_writer=found,
    vocab_size=14,
    hard_vocab_limit=False,
    minloglevel=2,
    add_dummy_prefix=False,
)
model = sentencepiece_model_pb2.ModelProto.FromString(found.getvalue())
own = sentencepiece.SentencePieceProcessor(model_proto=found.getvalue())
other = Precompiled(model.normalizer_spec.precompiled_charsmap)
print("tokenizers", version("tokenizers"), "sentencepiece", version("sentencepiece"))
same = True
for text in ("\uff76\uff9e", "\uff8a\uff9f", "\u304b\u3099", "a\u0323\u0302"):
    theirs, ours = own.normalize(text), other.normalize_str(text)
    print(ascii(text), "sentencepiece:", ascii(theirs), "Precompiled:", ascii(ours))
    same = same and theirs == ours
if same:
    print("changed")
    sys.exit(1)
PROGRAM
"$folder/venv/bin/python" "$folder/trial.py" 2>&1
