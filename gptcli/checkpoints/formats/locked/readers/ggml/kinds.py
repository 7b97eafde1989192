"""The model of a tokenizer.json for each kind of llama.cpp's tokenizers."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from gptcli.checkpoints.formats.locked.readers.ggml.tokens import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER,
    Tokens,
)
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.tokenization.text.marks import SPACE

GPT2 = (
    *("gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en", "mpt"),
    *("jina-v2-code", "roberta-bpe", "a.x-4.0", "mellum", "modern-bert", "exaone4", "olmo", "jais"),
    *("trillion", "granite-docling", "gigachat"),
)
DIGITS = ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b")
LLAMA3 = ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2")
QWEN2 = ("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan")
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS, QWEN2_WORDS = _WORDS % r"\p{N}{1,3}", _WORDS % r"\p{N}"
IGNORING_MERGES = LLAMA3  # a word that is a token is that token


def byte_level(tokens: Tokens) -> dict[str, Any]:
    """GPT-2's kind. Raises Refused for a regular expression that is not known."""
    vocabulary = tokens.vocabulary()
    pre = tokens.settings.get("pre", "default")
    if pre == "default":  # of files that are older than the setting, and of home-made ones
        tokens.notices.append("it does not say how to split words: they are split as in GPT-2")
        pre = "gpt-2"
    merges, lost = [], 0
    for line in tokens.merges:
        left, right = _halves(line)
        if left in vocabulary and right in vocabulary and left + right in vocabulary:
            merges.append([left, right])
        else:
            lost += 1
    if lost:
        tokens.notices.append(f"{lost} merges are left out: they make no token")
    return {
        "normalizer": None,
        "pre_tokenizer": _splitter(str(pre), tokens.file),
        "post_processor": None,
        "decoder": _bytes(use_regex=True),
        "model": {
            "type": "BPE",
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in IGNORING_MERGES,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _halves(line: str) -> tuple[str, str]:
    """The two parts of a merge; the first space but one at the very beginning parts them."""
    place = line.find(" ", 1)
    return (line[:place], line[place + 1 :]) if place > 0 else (line, "")


def _bytes(use_regex: bool) -> dict[str, Any]:
    flags = {"add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return {"type": "ByteLevel", **flags}


def _splitter(pre: str, file: str) -> dict[str, Any]:
    if pre in GPT2:
        return _bytes(use_regex=True)
    if pre in DIGITS:
        digits = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [digits, _bytes(use_regex=True)]}
    words = LLAMA3_WORDS if pre in LLAMA3 else QWEN2_WORDS if pre in QWEN2 else None
    if words is None:
        raise Refused(f"{file}: words are split as in {pre!r:.40}, which is not known here")
    split = {
        "type": "Split",
        "pattern": {"Regex": words},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _bytes(use_regex=False)]}


def sentencepiece_bpe(tokens: Tokens) -> dict[str, Any]:
    """sentencepiece's BPE, as llama.cpp has it: the pair with the best score is merged first."""
    vocabulary = tokens.vocabulary()
    usable = {text: id for text, id in vocabulary.items() if tokens.types[id] != UNUSED}
    merges: list[tuple[float, int, int, list[str]]] = []
    for text, id in usable.items():
        if tokens.types[id] not in (NORMAL, USER):
            continue
        for place in range(1, len(text)):
            left, right = usable.get(text[:place]), usable.get(text[place:])
            if left is not None and right is not None:
                pair = [text[:place], text[place:]]
                merges.append((-tokens.scores[id], left, right, pair))
    return {
        "normalizer": {"type": "Sequence", "normalizers": _spaces(tokens)},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _undo_spaces(tokens, BYTE in tokens.types),
        "model": {
            "type": "BPE",
            "unk_token": _text(tokens, tokens.unknown),
            "fuse_unk": True,
            "byte_fallback": BYTE in tokens.types,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [pair for *_, pair in sorted(merges)],
        },
    }


def _text(tokens: Tokens, id: int | None) -> str | None:
    return None if id is None else tokens.texts[id]


def _spaces(tokens: Tokens) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if tokens.settings.get("add_space_prefix", True) is True:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    return steps


def _undo_spaces(tokens: Tokens, byte_fallback: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    ]
    steps += [{"type": "ByteFallback"}] if byte_fallback else []
    steps.append({"type": "Fuse"})
    if tokens.settings.get("add_space_prefix", True) is True:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def unigram(tokens: Tokens) -> dict[str, Any]:
    """sentencepiece's Unigram."""
    vocabulary = tokens.vocabulary()
    if tokens.unknown is None:
        raise Refused(f"{tokens.file}: it does not say which token stands for unknown characters")
    steps: list[dict[str, Any]] = []
    charsmap = tokens.settings.get("precompiled_charsmap")
    if isinstance(charsmap, list) and charsmap:
        data = bytes(int(value) % 256 for value in charsmap)
        steps.append({"type": "Precompiled", "precompiled_charsmap": b64encode(data).decode()})
    if tokens.settings.get("remove_extra_whitespaces", False) is True:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    scores = [
        [text, 0.0 if tokens.types[id] == USER else tokens.scores[id]]
        for text, id in vocabulary.items()
    ]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*steps, *_spaces(tokens)]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _undo_spaces(tokens, byte_fallback=False),
        "model": {
            "type": "Unigram",
            "unk_id": tokens.unknown,
            "vocab": scores,
            "byte_fallback": False,
        },
    }


def word_piece(tokens: Tokens) -> dict[str, Any]:
    """BERT's WordPiece; a token that begins a word has llama.cpp's sign of a space."""
    texts = tokens.texts
    special = (CONTROL, UNKNOWN, USER)
    for id, text in enumerate(texts):
        if tokens.types[id] not in special and not _marked(text):
            begins = text.startswith(SPACE)
            texts[id] = text.removeprefix(SPACE) if begins else f"##{text}"
    unknown = _text(tokens, tokens.unknown)
    if unknown is None:
        raise Refused(f"{tokens.file}: it does not say which token stands for unknown words")
    lower = tokens.settings.get("normalizer.lowercase", True) is True
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": tokens.settings.get("normalizer.strip_accents", lower) is True,
            "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": tokens.vocabulary(),
        },
    }


def _marked(text: str) -> bool:
    """Whether a token is written as special ones are; llama.cpp's converter leaves these alone."""
    return text.startswith("[") and text.endswith("]")
