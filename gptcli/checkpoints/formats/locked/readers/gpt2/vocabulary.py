"""The tokenizer of OpenAI's files: encoder.json and vocab.bpe become vocab.json and merges.txt.

OpenAI's program takes the first and the last line of vocab.bpe for no merges, whatever they hold,
and the others by what stands between their spaces; so does this. A pair of files that GPT-2's
tokenizer cannot be made of is left out, with a notice: the weights may be sound all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.tokenization.files import JSON, MERGES, VOCABULARY
from gptcli.checkpoints.tokenization.loading import MAX_MISSING
from gptcli.checkpoints.tokenization.roles import END_OF_TEXT, GPT2_END
from gptcli.system.strict_json import read_bytes, read_object

ENCODER, BPE = "encoder.json", "vocab.bpe"
GPT2_SIZES = (50257, 50304)  # its tokens, and these padded
NONE = "there is no tokenizer beside it: copy that of the model into the new folder"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The files of a tokenizer, and the id of the token that ends a text."""

    texts: Mapping[str, str] = field(default_factory=dict)
    end: int | None = None
    notices: tuple[str, ...] = ()


def beside(files: Sequence[Path], embeddings: int) -> Vocabulary | None:
    """The tokenizer among files that are listed with the weights, if there is one.

    Raises Refused and GptcliError.
    """
    if whole := next((file for file in files if file.name == JSON), None):
        text = read_bytes(whole, MAX_TOKENIZER_BYTES).decode("utf-8", "replace")
        return Vocabulary(texts={JSON: text})
    pairs = {file.parent: file for file in files if file.name in (BPE, MERGES)}
    for encoder in files:
        if encoder.name in (ENCODER, VOCABULARY) and (bpe := pairs.get(encoder.parent)):
            return from_openai(encoder, bpe, embeddings)
    return None


def from_openai(encoder: Path, bpe: Path, embeddings: int) -> Vocabulary:
    """The tokenizer of the two files for a model of so many embeddings.

    Raises Refused and GptcliError for files that are damaged.
    """
    ids: dict[str, int] = {}
    for token, id in read_object(encoder, MAX_TOKENIZER_BYTES).items():
        if type(id) is not int or not 0 <= id < 2**31:
            raise Refused(f"{encoder.name}: the id of {token!r:.80} is not a whole number")
        ids[token] = id
    try:
        lines = read_bytes(bpe, MAX_TOKENIZER_BYTES).decode().split("\n")
    except UnicodeDecodeError as error:
        raise Refused(f"{bpe.name}: invalid UTF-8 at byte {error.start}") from None
    pairs = [line.split() for line in lines[1:-1]]
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if wrong := _misfit(ids, merges, embeddings):
        why = f"{encoder.name} and {bpe.name} are left out: {wrong}"
        return Vocabulary(notices=(f"{why}; copy the tokenizer of the model into the new folder",))
    return Vocabulary(texts=written(ids, merges), end=_end(ids, embeddings))


def written(ids: Mapping[str, int], merges: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The two files of GPT-2's tokenizer."""
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]
    return {VOCABULARY: json.dumps(ids, ensure_ascii=False), MERGES: "\n".join(lines)}


def end_of(vocabulary: Vocabulary, embeddings: int) -> int | None:
    """The token that ends a text: without a tokenizer GPT-2's, if the model has its size."""
    if vocabulary.texts or embeddings not in GPT2_SIZES:
        return vocabulary.end
    return GPT2_END


def _end(ids: Mapping[str, int], embeddings: int) -> int | None:
    end = ids.get(END_OF_TEXT)
    return end if end is not None and end < embeddings else None


def _misfit(ids: Mapping[str, int], merges: list[tuple[str, str]], embeddings: int) -> str | None:
    """Why no tokenizer of the model can be made of them."""
    beyond = max(ids.values(), default=0) + 1 - embeddings
    if beyond > max(MAX_MISSING, embeddings // 20):
        return f"token ids go up to {embeddings + beyond - 1}, and there are {embeddings} tokens"
    if len(set(ids.values())) < len(ids):
        return "an id is that of two tokens"
    unknown = (part for pair in merges for part in (*pair, "".join(pair)) if part not in ids)
    if (part := next(unknown, None)) is not None:
        return f"{part!r:.80} is made of others, but it has no id"
    return None
