"""A tokenizer as llama.cpp has it, where llama.cpp then gives the same ids.

llama.cpp has a byte-level BPE, whose ways to split words have names, and BERT's WordPiece, and
sentencepiece's two kinds. Each step of our tokenizer is compared with what llama.cpp does; one that
it lacks is refused by its name. Of WordPiece and sentencepiece, llama.cpp has its own code: see
`gptcli.checkpoints.formats.writers.proof` for the comparison of ids.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping

from gptcli.checkpoints.formats.locked.readers.ggml.kinds import (
    DIGITS,
    LLAMA3,
    LLAMA3_WORDS,
    QWEN2,
    QWEN2_WORDS,
)
from gptcli.checkpoints.formats.locked.readers.ggml.tokens import (
    BYTE,
    NORMAL,
    UNKNOWN,
)
from gptcli.checkpoints.formats.writers.gguf_tokens import (
    GgufTokenizer,
    GivenTokenizer,
    Json,
    refuse_tokenizer,
)
from gptcli.checkpoints.tokenization.builders.byte_level import BYTES
from gptcli.checkpoints.tokenization.text.marks import BYTE_TOKENS, SPACE
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

NO_END = 11  # what llama.cpp takes for the end of a text where a byte-level tokenizer has none
ENDS_PROMPTS = (
    "llama.cpp puts [SEP], which ends a text, behind each prompt of a WordPiece model:"
    " give it token ids, or let it encode without special tokens"
)


def vocabulary_of(tokenizer: Tokenizer, embeddings: int) -> GgufTokenizer:
    """The vocabulary of a model with so many embeddings. Raises BadModel for what llama.cpp lacks.

    Ids without a token get one that is never used.
    """
    whole: Json = json.loads(tokenizer.raw.to_str())
    kind = whole["model"]["type"]
    makers = {"BPE": _bpe, "WordPiece": _word_piece, "Unigram": _unigram}
    if kind not in makers:
        refuse_tokenizer(f"a tokenizer of the kind {kind}")
    return makers[kind](GivenTokenizer(tokenizer, whole, embeddings))


def _bpe(given: GivenTokenizer) -> GgufTokenizer:
    """Byte-level BPE; sentencepiece's BPE is a BPE with byte fallback."""
    model = given.model
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            refuse_tokenizer(f"BPE with {key}")
    if model.get("byte_fallback"):
        refuse_tokenizer("BPE with byte fallback: the scores of its merges are not known")
    if given.whole["normalizer"] is not None:
        refuse_tokenizer(f"it rewrites texts first ({_kinds(given.whole['normalizer'])})")
    texts, types = given.texts()
    if model.get("unk_token") and not set(BYTES) <= set(texts):
        refuse_tokenizer("a token for unknown bytes")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    if any(len(pair) != 2 or " " in pair[0] + pair[1] for pair in pairs):
        refuse_tokenizer("merges of texts with spaces")
    roles, notices = given.roles(), []
    if "eos" not in roles:
        token = texts[NO_END] if len(texts) > NO_END else ""
        notices.append(f"the model has no end token: llama.cpp ends a text at {token!r} ({NO_END})")
    return GgufTokenizer(
        model="gpt2",
        pre=_splitting(given.whole["pre_tokenizer"], model.get("ignore_merges") is True),
        texts=texts,
        types=types,
        merges=[" ".join(pair) for pair in pairs],
        ids=roles,
        switches=given.only_begins(),
        notices=tuple(notices),
    )


def _splitting(found: Json | None, ignores_merges: bool) -> str:
    """llama.cpp's name for a way to split words."""
    steps = (found or {}).get("pretokenizers", [found]) if found else []
    if not steps or steps[-1]["type"] != "ByteLevel":
        refuse_tokenizer(f"words are split by {_kinds(found)}")
    if steps[-1].get("add_prefix_space"):
        refuse_tokenizer("it puts a space before each text (add_prefix_space)")
    first, regex = steps[:-1], steps[-1].get("use_regex", True)
    name = ""
    if regex and not first:
        name = "gpt-2"
    elif regex and first == [{"type": "Digits", "individual_digits": True}]:
        name = DIGITS[0]
    elif not regex and len(first) == 1 and first[0]["type"] == "Split":
        words = first[0]["pattern"].get("Regex")
        name = {LLAMA3_WORDS: LLAMA3[2], QWEN2_WORDS: QWEN2[0]}.get(words, "")
        name = name if first[0]["behavior"] == "Isolated" and not first[0]["invert"] else ""
    if not name or ignores_merges != (name in LLAMA3):
        refuse_tokenizer(f"words are split by {_kinds(found)} in a way of its own")
    return name


def _kinds(found: Json | None) -> str:
    """The types of the steps of a part of tokenizer.json."""
    if found is None:
        return "nothing"
    inner = [value for value in found.values() if isinstance(value, list)]
    steps = [step for value in inner for step in value if isinstance(step, dict) and "type" in step]
    return ", ".join(_kinds(step) for step in steps) if steps else str(found.get("type"))


def _word_piece(given: GivenTokenizer) -> GgufTokenizer:
    """BERT's; llama.cpp marks tokens that begin words, where BERT marks the others."""
    model, normalizer = given.model, given.whole["normalizer"] or {}
    if normalizer.get("type") != "BertNormalizer" or not normalizer["handle_chinese_chars"]:
        refuse_tokenizer(f"WordPiece behind {_kinds(given.whole['normalizer'])}")
    splitter = (given.whole["pre_tokenizer"] or {}).get("type")
    if splitter != "BertPreTokenizer" or model["continuing_subword_prefix"] != "##":
        refuse_tokenizer(f"WordPiece whose words are split by {splitter}")
    texts, types = given.texts()
    unknown = given.tokenizer.raw.token_to_id(model["unk_token"])
    for id, text in enumerate(texts):
        if types[id] == NORMAL and id != unknown:
            inside = text.startswith("##") and text != "##"
            texts[id] = text[2:] if inside else SPACE + text
    if unknown is not None:
        types[unknown] = UNKNOWN if types[unknown] == NORMAL else types[unknown]
    if unknown is None or len(set(texts)) < len(texts) or "" in texts:
        refuse_tokenizer("WordPiece without a token for unknown words, or with twins")
    lower = bool(normalizer["lowercase"])
    separator = given.tokenizer.raw.token_to_id("[SEP]")
    accents = normalizer["strip_accents"]
    return GgufTokenizer(
        model="bert",
        texts=texts,
        types=types,
        scores=[0.0] * len(texts),
        ids=given.roles()
        | {"unknown": unknown}
        | ({} if separator is None else {"seperator": separator}),  # as llama.cpp spells it
        switches=given.only_begins()
        | {
            "add_sep_token": False,
            "normalizer.lowercase": lower,
            "normalizer.strip_accents": lower if accents is None else bool(accents),
        },
        notices=(ENDS_PROMPTS,),
    )


def _unigram(given: GivenTokenizer) -> GgufTokenizer:
    """sentencepiece's Unigram."""
    model = given.model
    if model.get("byte_fallback") or model.get("unk_id") is None:
        refuse_tokenizer("Unigram with byte fallback, or without a token for unknown characters")
    charsmap, merges_spaces = _unigram_steps(given.whole["normalizer"])
    prefix = _metaspace(given.whole["pre_tokenizer"])
    texts, types = given.texts()
    scores = [float(score) for _, score in model["vocab"]][: len(texts)]
    unknown = int(model["unk_id"])
    types[unknown] = UNKNOWN
    return sentencepiece_vocabulary(
        "t5",
        texts,
        scores + [0.0] * (len(texts) - len(scores)),
        types,
        ids=given.roles() | {"unknown": unknown},
        switches=given.only_begins()
        | {"add_space_prefix": prefix, "remove_extra_whitespaces": merges_spaces},
        charsmap=charsmap,
    )


def sentencepiece_vocabulary(
    model: str,
    texts: list[str],
    scores: list[float],
    types: list[int],
    *,
    ids: Mapping[str, int],
    switches: Mapping[str, bool],
    charsmap: bytes = b"",
    notices: tuple[str, ...] = (),
) -> GgufTokenizer:
    """A vocabulary of sentencepiece: `t5` for Unigram, `llama` for BPE with all bytes.

    types: sentencepiece's, which are llama.cpp's. Raises BadModel for a BPE that rewrites texts.
    """
    if model == "llama" and (charsmap or switches.get("remove_extra_whitespaces")):
        refuse_tokenizer("sentencepiece's BPE that rewrites texts first")
    if model == "llama" and {
        text for text, kind in zip(texts, types, strict=True) if kind == BYTE
    } != {*BYTE_TOKENS}:
        refuse_tokenizer("sentencepiece's BPE without tokens for all bytes")
    return GgufTokenizer(
        model=model,
        pre="default",
        texts=texts,
        types=types,
        scores=scores,
        ids=ids,
        switches=switches,
        charsmap=charsmap,
        notices=notices,
    )


def _unigram_steps(normalizer: Json | None) -> tuple[bytes, bool]:
    """The character map of a normalizer, and whether it makes one space of several."""
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    charsmap, merges_spaces = b"", False
    for step in steps:
        if step["type"] == "Precompiled":
            charsmap = b64decode(step["precompiled_charsmap"] or "")
        elif step == {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}:
            merges_spaces = True
        elif step["type"] != "Strip":
            refuse_tokenizer(f"Unigram behind {_kinds(normalizer)}")
    return charsmap, merges_spaces


def _metaspace(found: Json | None) -> bool:
    """Whether a space is put before each text."""
    if found is None or found.get("type") != "Metaspace" or found["replacement"] != SPACE:
        refuse_tokenizer(f"Unigram whose words are split by {_kinds(found)}")
    return bool(found["prepend_scheme"] != "never")
