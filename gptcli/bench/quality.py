"""What a smaller data type costs: the perplexity of a text in each.

Perplexity (Jelinek et al. 1977) is the exponential of the mean negative log-likelihood of a token.
The text is cut into windows as long as the context allows, without overlap; each is scored by
itself after its first word. Windows are cut before a space or a line break, where GPT-2's tokenizer
begins a token anyway, so that every token is one of the text's own. Sliding windows would give
lower numbers and the same comparison.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import get_args

from gptcli.bench.entrants import label, plain
from gptcli.bench.figures import EngineRuns, Figure
from gptcli.bench.rounds import Say, left_out
from gptcli.bench.workloads import SLOTS
from gptcli.engines import open_engine
from gptcli.errors import BadInput, Unavailable, UsageError
from gptcli.options import Dtype, Load
from gptcli.protocol import ChoiceLogprobs, Engine, LoglikelihoodRequest

REFERENCE_DTYPE = "float32"
# Between a character that is no white space and one that is: before a word with its space.
TOKEN_BORDER = re.compile(r"(?<=\S)(?=\s)")


def quality(load: Load, text: str, say: Say) -> Iterator[Figure]:
    """The perplexity of `text` in every data type, and its change from float32 in percent.

    Data types that the engine or the device lacks are left out. Raises BadInput for a text of fewer
    than two words.
    """
    exact = math.nan
    others = [dtype for dtype in get_args(Dtype) if dtype not in ("auto", REFERENCE_DTYPE)]
    for dtype in (REFERENCE_DTYPE, *others):
        try:
            engine = open_engine(replace(plain(load), dtype=dtype), SLOTS)
        except (UsageError, Unavailable) as error:
            say(left_out(dtype, error))
            continue
        tokens, found = perplexity(engine, text)
        runs = EngineRuns(label(dtype), (found,))
        yield Figure(f"perplexity of {tokens} tokens, {dtype}", "", runs, (), False)
        if dtype == REFERENCE_DTYPE:
            exact = found
        else:
            change = EngineRuns(runs.engine, (100 * (found / exact - 1),))
            yield Figure(f"change by {dtype}", "%", change, (), False)


def perplexity(engine: Engine, text: str) -> tuple[int, float]:
    """How many tokens of the text were scored, and their perplexity.

    Raises BadInput where there is nothing to score, and the error of a window that failed.
    """
    requests = (
        LoglikelihoodRequest(id=str(number), prompt=first, choices=(rest,))
        for number, (first, rest) in enumerate(windows(text, engine.count, engine.info.context))
    )
    logprobs: list[float] = []
    for event in engine.run(requests):
        if isinstance(event, ChoiceLogprobs):
            if event.error:
                raise event.error
            logprobs += event.choices[0].logprobs
    if not logprobs:
        raise BadInput("--text", "it has fewer than two words", "Give a longer text.")
    return len(logprobs), math.exp(-math.fsum(logprobs) / len(logprobs))


def windows(text: str, count: Callable[[str], int], context: int) -> Iterator[tuple[str, str]]:
    """The text as windows of fewer than `context` tokens: the first word of each, and the rest."""
    words: list[str] = []
    room = most = context - 2
    for word in _words(text, count, most // 2):
        tokens = count(word)
        if tokens > room and words:
            yield words[0], "".join(words[1:])
            words, room = [], most
        words.append(word)
        room -= tokens
    if len(words) > 1:
        yield words[0], "".join(words[1:])


def _words(text: str, count: Callable[[str], int], most: int) -> Iterator[str]:
    """Words with the white space before them; one of more than `most` tokens is cut in halves."""
    for word in TOKEN_BORDER.split(text):
        if count(word) <= most or len(word) == 1:
            yield word
        else:
            middle = len(word) // 2
            yield from _words(word[:middle], count, most)
            yield from _words(word[middle:], count, most)
