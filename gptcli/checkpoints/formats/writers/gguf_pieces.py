"""A sentencepiece model as llama.cpp has it: `t5` for Unigram, `llama` for BPE with all bytes.

The pieces of the model's own file go over as they are: llama.cpp has sentencepiece's algorithms.
What a tokenizer class does beside is refused by its name; of lower case a notice is given, for
texts that are in lower case, or have none, get the same ids.
"""

from __future__ import annotations

from pathlib import Path

from gptcli.checkpoints.formats.locked.readers.ggml.tokens import CONTROL
from gptcli.checkpoints.formats.writers.gguf_tokens import (
    GgufTokenizer,
    GivenTokenizer,
    refuse_tokenizer,
)
from gptcli.checkpoints.formats.writers.gguf_vocabulary import sentencepiece_vocabulary
from gptcli.checkpoints.tokenization.builders.sentencepiece import MAX_BYTES
from gptcli.checkpoints.tokenization.kinds import Recognised, settings_of
from gptcli.checkpoints.tokenization.pieces.classes import named_class
from gptcli.checkpoints.tokenization.pieces.model import BPE, UNIGRAM, PieceModel, parse
from gptcli.checkpoints.tokenization.roles import named_roles
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.system.strict_json import read_bytes

LOWER = (
    "llama.cpp leaves capital letters, which the model's tokenizer makes small: give it texts in"
    " lower case"
)


def pieces_vocabulary(
    folder: Path, found: Recognised, tokenizer: Tokenizer, embeddings: int
) -> GgufTokenizer:
    """The vocabulary of a tokenizer that was built from a sentencepiece model.

    Raises BadModel for what llama.cpp does otherwise.
    """
    model = parse(read_bytes(found.file, MAX_BYTES))
    by_class = named_class(found.class_name)
    if by_class is None or by_class.ids or by_class.cleaning:
        refuse_tokenizer(f"what {found.class_name} does beside sentencepiece")
    name = _checked(model)
    given = GivenTokenizer(tokenizer, {"model": {}}, embeddings)
    texts, types = given.texts()
    for id, text in enumerate(model.texts[:embeddings]):
        if texts[id] != text:
            refuse_tokenizer(f"{found.class_name} gives pieces other ids than their places")
        types[id] = types[id] if types[id] == CONTROL else model.kinds[id]
    scores = [*model.scores, *[0.0] * len(texts)][: len(texts)]
    lower = settings_of(found, named_roles(folder)).get("do_lower_case", by_class.lower)
    rules = model.normalization
    return sentencepiece_vocabulary(
        name,
        texts,
        scores,
        types,
        ids=given.roles() | {"unknown": model.unknown},
        switches=given.only_begins()
        | {
            "add_space_prefix": rules.add_dummy_prefix,
            "remove_extra_whitespaces": rules.remove_extra_whitespaces,
        },
        charsmap=rules.charsmap,
        notices=(LOWER,) if lower is True else (),
    )


def _checked(model: PieceModel) -> str:
    """llama.cpp's name for the kind of model."""
    rules = model.normalization
    if rules.whitespace_as_suffix or not rules.escape_whitespaces:
        refuse_tokenizer("sentencepiece with spaces behind words")
    if model.algorithm == UNIGRAM and not model.byte_fallback:
        return "t5"
    if model.algorithm != BPE:
        refuse_tokenizer("sentencepiece's Unigram with byte fallback, or its words or characters")
    return "llama"
