"""What engines are given to write: prompts and lengths, the same on every machine.

Lengths of mixed rows have no pattern, and prompts that are measured for their own sake begin
differently in each run, so that no prefix cache helps.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from gptcli.bench.peers.peer import PeerWork

SLOTS = 16
NEW_TOKENS = 64
MIXED_ROWS = 64
SENTENCE = "It was a dark night and the old king sat by the fire with his three sons . "
WORDS = SENTENCE.replace(".", "").split()


def decoding() -> dict[str, list[PeerWork]]:
    """One row, and 16 equal rows."""
    same = PeerWork(SENTENCE, NEW_TOKENS)
    return {"1 row": [same], f"{SLOTS} rows": [same] * SLOTS}


def mixed(rows: int, prompts: int = 13) -> list[PeerWork]:
    """Rows whose prompts are 1 to `prompts` sentences, and whose texts 8 to 128 tokens."""
    return [
        PeerWork(SENTENCE * (1 + number * 7 % prompts), 8 + number * number * 37 % 121)
        for number in range(rows)
    ]


def prompt(count: Callable[[str], int], length: int, run: int) -> str:
    """A text of `length` tokens by `count`, another one for each run.

    A tokenizer that has no token for ` a` can miss the length by a little.
    """
    words = Random(run).choices(WORDS, k=length)
    while count(" ".join(words)) > length:
        words.pop()
    text = " ".join(words)
    return text + " a" * (length - count(text))
