"""How much an answer may be, and how long it may take, by what was asked.

The numbers are far above what honest servers send: they part an answer that is long from one that
has no end. Below `MOST_DOCUMENT` and its kin no answer takes more than 100 MB of memory, unless
far more was asked for than GPT-2 reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gptcli.system.units import counted

KIB, MIB = 2**10, 2**20
CHARACTERS = 128  # of a token: the longest of GPT-2 and of its kin
SPARE_CHARACTERS, SPARE_TOKENS = KIB, 8  # of a text: what a server adds of its own
MESSAGE_BYTES = 2 * KIB  # around a token in a stream; 0.2 to 0.6 are usual
TOKEN_BYTES = 128  # of a token in JSON; also of each log-probability beside it
ECHO_BYTES = 256  # for each byte of an echoed text, which may be a token; 30 to 60 are usual
SPARE_BYTES = MIB
LIST_BYTES = 8 * MIB  # of a list of models; the longest known has 1 MB
SPARE_MEMORY, TOKEN_MEMORY = 32 * MIB, KIB  # of a JSON document, parsed
MOST_DOCUMENT, MOST_ANSWER = 32 * MIB, 1024 * MIB
MOST_CHARACTERS, MOST_TOKENS = 4 * MIB, 256 * KIB
TOKENS_WRITTEN = 120  # in the time without progress that is allowed: 5 s each by default
BYTES_READ = 4000  # of prompts, in the same time: about 1 200 tokens
BEFORE = 2  # such times, before the first token: until headers come, and after them


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one answer: sizes in bytes after decompression, times in seconds."""

    asked: str  # in words
    texts: int  # in one message
    characters: int  # of all texts together
    tokens: int  # listed with log-probabilities, of all texts together
    document: int  # one message of a stream, or a whole JSON answer
    memory: int  # that a document takes, parsed; an estimate that is rather too high
    answer: int
    stall: float  # without progress: until headers come, until the first token, between tokens
    silence: float  # without a byte, once there was progress
    whole: float
    behind: float  # after the last text has ended; also for the body of an error


def limits_of(body: Mapping[str, object], stall: float, silence: float, behind: float) -> Limits:
    """The bounds of the answer to a completion request."""
    prompt = body.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    read = sum(len(str(text).encode("utf-8", "replace")) for text in prompts)
    count = _number(body, "n", 1)
    texts, new = count * len(prompts), _number(body, "max_tokens", 0)
    written, echoed = texts * new, read if body.get("echo") else 0
    beside = _number(body, "logprobs", 0) + 2 if "logprobs" in body else 0
    document = SPARE_BYTES + written * TOKEN_BYTES * (1 + beside)
    document = min(document + read * 8 * count + echoed * ECHO_BYTES, MOST_DOCUMENT)
    tokens = min(written + echoed + texts * SPARE_TOKENS, MOST_TOKENS)
    characters = written * CHARACTERS + read * count + texts * SPARE_CHARACTERS
    return Limits(
        asked=counted(texts, "text") + (f" of {counted(new, 'token')}" if new else " to score"),
        texts=texts,
        characters=min(characters, MOST_CHARACTERS),
        tokens=tokens,
        document=document,
        memory=SPARE_MEMORY + tokens * TOKEN_MEMORY,
        answer=min(document + written * (MESSAGE_BYTES + TOKEN_BYTES * beside), MOST_ANSWER),
        stall=stall,
        silence=min(silence, stall),
        whole=stall * (BEFORE + written / TOKENS_WRITTEN + read / BYTES_READ),
        behind=behind,
    )


def limits_of_list(stall: float, behind: float) -> Limits:
    """The bounds of a list of models, which is short: it must be whole within `stall` seconds."""
    return Limits(
        asked="a list of models",
        texts=0,
        characters=0,
        tokens=0,
        document=LIST_BYTES,
        memory=SPARE_MEMORY,
        answer=LIST_BYTES,
        stall=stall,
        silence=stall,
        whole=stall,
        behind=behind,
    )


def _number(body: Mapping[str, object], name: str, otherwise: int) -> int:
    found = body.get(name)
    return found if isinstance(found, int) else otherwise
