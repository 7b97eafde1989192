"""GPT-2's tokenizer made again from its tokens alone, in the order of their ids.

A byte-level BPE numbers its tokens in the order in which they were merged. So the two parts of a
token are what the merges before it make of its bytes, and nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from gptcli.checkpoints.formats.locked.readers.gpt2.vocabulary import Vocabulary, written
from gptcli.checkpoints.tokenization.builders.byte_level import BYTES
from gptcli.checkpoints.tokenization.roles import END_OF_TEXT

MAX_WORK = 10**8  # bytes of tokens, each squared: GPT-2 has 4 million
CHARACTERS = {byte: character for character, byte in BYTES.items()}


def from_tokens(file: str, tokens: Sequence[bytes], end: int, embeddings: int) -> Vocabulary:
    """The tokenizer of these tokens, where `end` is the id of the one that ends a text."""
    ranks = {token: id for id, token in enumerate(tokens) if id != end}
    merges = _merges(ranks)
    if merges is None or len(ranks) < len(tokens) - 1 or len(tokens) > embeddings:
        why = "its tokens are not those of a byte-level BPE for the model, in the order of merges"
        return Vocabulary(notices=(f"{file} is left out: {why}",))
    ids = {_shown(token): id for token, id in ranks.items()}
    if 0 <= end < len(tokens):
        ids[END_OF_TEXT] = end
    return Vocabulary(
        texts=written(ids, [(_shown(left), _shown(right)) for left, right in merges]),
        end=ids.get(END_OF_TEXT),
    )


def _shown(token: bytes) -> str:
    return "".join(CHARACTERS[byte] for byte in token)


def _merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]] | None:
    """The parts of each token; None where one is not made of two that came before it."""
    if sum(len(token) ** 2 for token in ranks) > MAX_WORK:
        return None
    found = []
    for token, rank in ranks.items():
        if len(token) > 1:
            parts = _parts(token, rank, ranks)
            if len(parts) != 2 or not all(part in ranks for part in parts):
                return None
            found.append((parts[0], parts[1]))
    return found


def _parts(token: bytes, limit: int, ranks: Mapping[bytes, int]) -> list[bytes]:
    """What merges before `limit` make of a token's bytes, the earliest first."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        joined = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
        first = min(joined)
        if first >= limit:
            break
        place = joined.index(first)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts
