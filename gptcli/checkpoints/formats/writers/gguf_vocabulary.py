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
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gptcli.checkpoints.formats.locked.ggml.kinds import (
    DIGITS,
    LLAMA3,
    LLAMA3_WORDS,
    QWEN2,
    QWEN2_WORDS,
    SPACE,
)
from gptcli.checkpoints.formats.locked.ggml.tokens import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER,
)
from gptcli.checkpoints.tokenization.byte_level import BYTES
from gptcli.checkpoints.tokenization.reading import unused
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel

NO_END = 11  # what llama.cpp takes for the end of a text where a byte-level tokenizer has none
ENDS_PROMPTS = (
    "llama.cpp puts [SEP], which ends a text, behind each prompt of a WordPiece model:"
    " give it token ids, or let it encode without special tokens"
)
BYTE_PIECES = {f"<0x{byte:02X}>" for byte in range(256)}
Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer: tokens by id, and settings by key."""

    model: str
    texts: list[str]
    types: list[int]
    pre: str = ""
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    ids: Mapping[str, int] = field(default_factory=dict)  # special tokens by role
    switches: Mapping[str, bool] = field(default_factory=dict)
    charsmap: bytes = b""
    template: str | None = None
    notices: tuple[str, ...] = ()

    def add_to(self, writer: Any) -> None:
        """Add all of it to a GGUFWriter."""
        writer.add_tokenizer_model(self.model)
        if self.pre:
            writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.texts)
        writer.add_token_types(self.types)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.charsmap:
            writer.add_precompiled_charsmap(self.charsmap)
        for role, id in self.ids.items():
            writer.add_uint32(f"tokenizer.ggml.{role}_token_id", id)
        for name, switch in self.switches.items():
            writer.add_bool(f"tokenizer.ggml.{name}", switch)
        if self.template:
            writer.add_chat_template(self.template)


def vocabulary_of(tokenizer: Tokenizer, embeddings: int) -> Vocabulary:
    """The vocabulary of a model with so many embeddings. Raises BadModel for what llama.cpp lacks.

    Ids without a token get one that is never used.
    """
    whole: Json = json.loads(tokenizer.raw.to_str())
    kind = whole["model"]["type"]
    makers = {"BPE": _bpe, "WordPiece": _word_piece, "Unigram": _unigram}
    if kind not in makers:
        _refuse(f"a tokenizer of the kind {kind}")
    return makers[kind](_Given(tokenizer, whole, embeddings))


def _refuse(what: str) -> NoReturn:
    hint = "Use it here, or write it for CTranslate2, which leaves texts to our tokenizer"
    raise BadModel("llama.cpp", f"it has no tokenizer like the model's: {what}", hint)


class _Given:
    """A tokenizer, and what all kinds ask of it."""

    def __init__(self, tokenizer: Tokenizer, whole: Json, embeddings: int) -> None:
        self.whole, self.embeddings = whole, embeddings
        self.tokenizer, self._raw = tokenizer, tokenizer.raw
        self.model: Json = whole["model"]
        self.added = {
            id: token
            for id, token in tokenizer.raw.get_added_tokens_decoder().items()
            if id < embeddings
        }
        for token in self.added.values():
            if not token.special and (token.lstrip or token.rstrip or token.single_word):
                _refuse(f"the token {token.content!r:.40} takes spaces or whole words only")
        self.before, self.behind = self._around()

    def _around(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts around a text."""
        found = self._raw.encode("")
        ids = found.ids
        middle = self._raw.post_processor
        if middle is None or not ids:
            return [], []
        probe = self._raw.encode("a")
        bare = self._raw.encode("a", add_special_tokens=False).ids
        count = next(
            (n for n in range(len(ids) + 1) if probe.ids[n : n + len(bare)] == bare), len(ids)
        )
        return ids[:count], ids[count:]

    def texts(self) -> tuple[list[str], list[int]]:
        """The text and llama.cpp's type of each id."""
        known: set[str] = set()
        texts, types = [], []
        for id in range(self.embeddings):
            token = self._raw.id_to_token(id)
            kind = NORMAL
            if token is None or token == unused(id):
                token, kind = f"[unused {id}]", UNUSED
            elif id in self.added:
                kind = CONTROL if self.added[id].special else USER
            while token in known:
                token = f"{token}_"
            known.add(token)
            texts.append(token)
            types.append(kind)
        return texts, types

    def roles(self) -> dict[str, int]:
        """The ids of the tokens that begin and end texts, by llama.cpp's names."""
        roles = self.tokenizer.roles.within(self.embeddings)
        named = {"bos": roles.begin, "eos": roles.end}
        return {role: id for role, id in named.items() if id is not None}

    def only_begins(self) -> dict[str, bool]:
        """The switches for a tokenizer that may put its begin token before a text.

        What it puts behind a text is left out: it would end each prompt.
        """
        if self.before not in ([], [self.roles().get("bos")]):
            _refuse("it puts other tokens than its begin token before a text")
        return {"add_bos_token": bool(self.before), "add_eos_token": False}


def _bpe(given: _Given) -> Vocabulary:
    """Byte-level BPE; sentencepiece's BPE is a BPE with byte fallback."""
    model = given.model
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            _refuse(f"BPE with {key}")
    if model.get("byte_fallback"):
        _refuse("BPE with byte fallback: the scores of its merges are not known")
    if given.whole["normalizer"] is not None:
        _refuse(f"it rewrites texts first ({_kinds(given.whole['normalizer'])})")
    texts, types = given.texts()
    if model.get("unk_token") and not set(BYTES) <= set(texts):
        _refuse("a token for unknown bytes")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    if any(len(pair) != 2 or " " in pair[0] + pair[1] for pair in pairs):
        _refuse("merges of texts with spaces")
    roles, notices = given.roles(), []
    if "eos" not in roles:
        token = texts[NO_END] if len(texts) > NO_END else ""
        notices.append(f"the model has no end token: llama.cpp ends a text at {token!r} ({NO_END})")
    return Vocabulary(
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
        _refuse(f"words are split by {_kinds(found)}")
    if steps[-1].get("add_prefix_space"):
        _refuse("it puts a space before each text (add_prefix_space)")
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
        _refuse(f"words are split by {_kinds(found)} in a way of its own")
    return name


def _kinds(found: Json | None) -> str:
    """The types of the steps of a part of tokenizer.json."""
    if found is None:
        return "nothing"
    inner = [value for value in found.values() if isinstance(value, list)]
    steps = [step for value in inner for step in value if isinstance(step, dict) and "type" in step]
    return ", ".join(_kinds(step) for step in steps) if steps else str(found.get("type"))


def _word_piece(given: _Given) -> Vocabulary:
    """BERT's; llama.cpp marks tokens that begin words, where BERT marks the others."""
    model, normalizer = given.model, given.whole["normalizer"] or {}
    if normalizer.get("type") != "BertNormalizer" or not normalizer["handle_chinese_chars"]:
        _refuse(f"WordPiece behind {_kinds(given.whole['normalizer'])}")
    splitter = (given.whole["pre_tokenizer"] or {}).get("type")
    if splitter != "BertPreTokenizer" or model["continuing_subword_prefix"] != "##":
        _refuse(f"WordPiece whose words are split by {splitter}")
    texts, types = given.texts()
    unknown = given.tokenizer.raw.token_to_id(model["unk_token"])
    for id, text in enumerate(texts):
        if types[id] == NORMAL and id != unknown:
            inside = text.startswith("##") and text != "##"
            texts[id] = text[2:] if inside else SPACE + text
    if unknown is not None:
        types[unknown] = UNKNOWN if types[unknown] == NORMAL else types[unknown]
    if unknown is None or len(set(texts)) < len(texts) or "" in texts:
        _refuse("WordPiece without a token for unknown words, or with twins")
    lower = bool(normalizer["lowercase"])
    separator = given.tokenizer.raw.token_to_id("[SEP]")
    accents = normalizer["strip_accents"]
    return Vocabulary(
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


def _unigram(given: _Given) -> Vocabulary:
    """sentencepiece's Unigram."""
    model = given.model
    if model.get("byte_fallback") or model.get("unk_id") is None:
        _refuse("Unigram with byte fallback, or without a token for unknown characters")
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
) -> Vocabulary:
    """A vocabulary of sentencepiece: `t5` for Unigram, `llama` for BPE with all bytes.

    types: sentencepiece's, which are llama.cpp's. Raises BadModel for a BPE that rewrites texts.
    """
    if model == "llama" and (charsmap or switches.get("remove_extra_whitespaces")):
        _refuse("sentencepiece's BPE that rewrites texts first")
    if (
        model == "llama"
        and {text for text, kind in zip(texts, types, strict=True) if kind == BYTE} != BYTE_PIECES
    ):
        _refuse("sentencepiece's BPE without tokens for all bytes")
    return Vocabulary(
        model=model,
        pre="default",
        texts=texts,
        types=types,
        scores=scores,
        ids=ids,
        switches=switches,
        charsmap=charsmap,
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
            _refuse(f"Unigram behind {_kinds(normalizer)}")
    return charsmap, merges_spaces


def _metaspace(found: Json | None) -> bool:
    """Whether a space is put before each text."""
    if found is None or found.get("type") != "Metaspace" or found["replacement"] != SPACE:
        _refuse(f"Unigram whose words are split by {_kinds(found)}")
    return bool(found["prepend_scheme"] != "never")
