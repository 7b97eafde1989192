"""Sentences scored a second: `gptcli score --lines` against a plain loop over transformers.

The loop is the usual one: batches in the order of the file, padded to the longest, a softmax over
the vocabulary, and the log-probability of each token of the text. Both compute in float32, with
the same batch size and threads, and must agree before any speed is believed. Sentences have the
lengths of prose, which is where padding costs; of equal lengths the two would be about as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from gptcli.bench.entrants import label, plain
from gptcli.bench.figures import Figure
from gptcli.bench.peers.peer import PeerSetting
from gptcli.bench.peers.transformers import Transformers
from gptcli.bench.rounds import EngineTurn, Say, figure, in_turn
from gptcli.bench.workloads import SLOTS, WORDS
from gptcli.engines import open_engine
from gptcli.errors import Unavailable
from gptcli.options import Dtype, Load
from gptcli.protocol import Engine
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import TextToScore, score

FLOAT32: Dtype = "float32"
# Log-normal length of a sentence in words: the median is 18, half lie between 13 and 25.
LOG_WORDS_MEAN, LOG_WORDS_SD = 2.9, 0.5
RELATIVE_TOLERANCE = 1e-3  # of a sentence's log-probability


def scoring(
    load: Load, place: PeerSetting, sentences: int, runs: int, say: Say
) -> Iterator[Figure]:
    """Sentences a second, ours and the loop's. `place`: the checkpoint, its device and threads."""
    texts = prose(sentences)
    engine = open_engine(replace(plain(load), dtype=FLOAT32), SLOTS)
    peer = Transformers(place)
    checked(ours(engine, texts[:SLOTS]), peer.score(texts[:SLOTS]))
    turns = [
        _turn(label(FLOAT32), texts, lambda given: ours(engine, given)),
        _turn(f"transformers {FLOAT32}", texts, peer.score),
    ]
    [found] = in_turn(turns, runs, say, warm=0)
    yield figure(f"{sentences} sentences scored", "sentences/s", found)


def prose(count: int) -> list[str]:
    """Sentences of random words, as long as those of prose; the same each time."""
    random = Random(0)
    lengths = [
        max(2, round(random.lognormvariate(LOG_WORDS_MEAN, LOG_WORDS_SD))) for _ in range(count)
    ]
    return [" ".join(random.choices(WORDS, k=length)) + "." for length in lengths]


def ours(engine: Engine, texts: Sequence[str]) -> list[float]:
    """Each text's log-probability by our engine. Raises the error of one that failed."""
    given = (TextToScore(str(number), text) for number, text in enumerate(texts))
    found = []
    for item in score(engine, given, Scoring(), batch_size=SLOTS):
        if item.error:
            raise item.error
        found.append(item.logprob or 0.0)
    return found


def checked(found: Sequence[float], theirs: Sequence[float]) -> None:
    """Raises Unavailable where the two do not score the same."""
    for one, other in zip(found, theirs, strict=True):
        if abs(one - other) > RELATIVE_TOLERANCE * max(1.0, abs(other)):
            why = f"it scores a sentence {other:.4f}, and gptcli {one:.4f}"
            raise Unavailable("transformers", why, "Measure with another model")


def _turn(
    name: str, texts: Sequence[str], scores: Callable[[Sequence[str]], list[float]]
) -> EngineTurn:
    def measure(run: int) -> tuple[float]:
        begin = time.perf_counter()
        scores(texts)
        return (len(texts) / (time.perf_counter() - begin),)

    return EngineTurn(name, measure)
