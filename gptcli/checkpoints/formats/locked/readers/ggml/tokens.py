"""The tokens of a GGUF file: texts, scores and types by id, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gptcli.checkpoints.formats.locked.source import Refused

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # llama.cpp's types of tokens
MAX_TOKEN_CHARACTERS = 2**12
_PREFIX = "tokenizer.ggml."
FRAMED = {"bert": (True, False, True)}  # bos, eos and sep by default, by kind; else as below
ONLY_BOS = {"llama": (True, False, False)}
PRE_WITH_SEPARATOR = ("jina-v1-en", "jina-v2-code", "roberta-bpe")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A vocabulary as llama.cpp has it.

    before, behind: the tokens that it puts around a text. settings: what else its kind asks for.
    """

    file: str
    texts: list[str]
    scores: list[float]
    types: list[int]
    merges: list[str]
    unknown: int | None
    before: int | None
    behind: int | None
    settings: Mapping[str, object]
    notices: list[str] = field(default_factory=list)

    def vocabulary(self) -> dict[str, int]:
        """Ids by text; unused tokens at the end are left out. Raises Refused for twins."""
        last = len(self.texts)
        while last and self.types[last - 1] == UNUSED:
            last -= 1
        found = {text: id for id, text in enumerate(self.texts[:last])}
        if len(found) < last:
            twins = [text for id, text in enumerate(self.texts[:last]) if found[text] != id]
            raise Refused(f"{self.file}: the token {twins[0]!r:.60} stands there twice")
        return found


def read_tokens(file: str, metadata: Mapping[str, object], size: int) -> Tokens:
    """The vocabulary of a model with `size` embeddings. Raises Refused."""
    texts = _texts(file, metadata, "tokens")
    if not texts or len(texts) > size:
        raise Refused(f"{file}: {len(texts)} tokens, but embeddings for {size}")
    scores = _numbers(file, metadata, "scores", len(texts), 0.0)
    types = [int(kind) for kind in _numbers(file, metadata, "token_type", len(texts), NORMAL)]
    ids = {
        role: _id(metadata, f"{role}_token_id", len(texts))
        for role in ("bos", "eos", "unknown", "cls", "seperator")
    }
    before, behind = _around(metadata, ids)
    return Tokens(
        file=file,
        texts=_named(texts),
        scores=scores,
        types=types,
        merges=_texts(file, metadata, "merges"),
        unknown=ids["unknown"],
        before=before,
        behind=behind,
        settings={key.removeprefix(_PREFIX): value for key, value in metadata.items()},
    )


def _texts(file: str, metadata: Mapping[str, object], key: str) -> list[str]:
    found = metadata.get(_PREFIX + key, [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise Refused(f"{file}: {_PREFIX}{key} is no list of texts")
    if any(len(text) > MAX_TOKEN_CHARACTERS for text in found):
        raise Refused(f"{file}: {_PREFIX}{key} has a text of more than {MAX_TOKEN_CHARACTERS}")
    return found


def _numbers(
    file: str, metadata: Mapping[str, object], key: str, count: int, default: float
) -> list[float]:
    found = metadata.get(_PREFIX + key)
    if found is None:
        return [default] * count
    if not isinstance(found, list) or len(found) != count:
        raise Refused(f"{file}: {_PREFIX}{key} has not one number for each of {count} tokens")
    if not all(isinstance(one, int | float) and abs(one) < 1e9 for one in found):
        raise Refused(f"{file}: {_PREFIX}{key} has what is no number")
    return found


def _named(texts: list[str]) -> list[str]:
    """As llama.cpp: a token without a text gets one."""
    return [text or f"[EMPTY_{id}]" for id, text in enumerate(texts)]


def _id(metadata: Mapping[str, object], key: str, size: int) -> int | None:
    value = metadata.get(_PREFIX + key)
    return value if type(value) is int and 0 <= value < size else None


def _around(
    metadata: Mapping[str, object], ids: Mapping[str, int | None]
) -> tuple[int | None, int | None]:
    """The tokens before and behind a text, as llama.cpp adds them."""
    kind = str(metadata.get(f"{_PREFIX}model"))
    begin, end, separate = {**FRAMED, **ONLY_BOS}.get(kind, (False, False, False))
    separate = separate or metadata.get(f"{_PREFIX}pre") in PRE_WITH_SEPARATOR
    told = {
        role: metadata.get(f"{_PREFIX}add_{role}_token", default)
        for role, default in (("bos", begin), ("eos", end), ("sep", separate))
    }
    first = ids["bos"] if ids["bos"] is not None else ids["cls"]
    last = ids["seperator"] if told["sep"] is True else None
    if told["eos"] is True:
        last = ids["eos"]
    return first if told["bos"] is True else None, last
