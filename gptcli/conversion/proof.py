"""Whether a converted model computes what it did before.

Every GPT-2 reads a probe text in our plainest network, in float32: numbers that are not finite are
no model. Where the source's own program left what it computed beside the model, as llm.c does,
both are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.config_json import OTHER_MODEL
from gptcli.checkpoints.formats.conversion import SelfCheck
from gptcli.checkpoints.formats.locked.source import Proof
from gptcli.checkpoints.formats.writers.proof import probe
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel, GptcliError

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

MOST_DIFFERENCE = 0.05  # nats; float32 differs by some 1e-5, another activation by more than 0.1
MOST_COMPARED = 1024  # tokens of what the source's program computed
ROWS = 32  # of logits that are in memory at a time


def self_check(checked: CheckedCheckpoint, proof: Proof | None) -> SelfCheck | None:
    """Run a converted model; None for what is no GPT-2.

    Raises BadModel where it computes no numbers, or others than the source's program did.
    """
    if checked.gpt2 is None:
        return None
    run = log_probabilities(checked)
    tokenizer = tokenizer_of(checked)
    text, ids = probe(tokenizer, checked.gpt2.vocab_size, checked.gpt2.n_positions)
    loss = -math.fsum(_scored(run, ids)) / (len(ids) - 1)
    if not math.isfinite(loss):
        why = "what it computes is not finite (NaN or infinite)"
        raise BadModel("the converted model", why, OTHER_MODEL)
    compared, largest = _compared(run, proof)
    if largest is not None and not largest <= MOST_DIFFERENCE:
        why = (
            f"a log-probability differs by {largest:.3g} nats from what the program that made it"
            f" left beside it; at most {MOST_DIFFERENCE} are allowed"
        )
        raise BadModel("the converted model", why, "Get both files of one run, or choose another")
    return SelfCheck(text=text, tokens=len(ids), loss=loss, compared=compared, largest=largest)


def tokenizer_of(checked: CheckedCheckpoint) -> Tokenizer | None:
    """The model's tokenizer; None where there is none that works."""
    try:
        return load_tokenizer(checked.folder)
    except GptcliError:
        return None


def log_probabilities(checked: CheckedCheckpoint) -> Callable[[Sequence[int]], Array]:
    """What our plainest network computes: token ids to log-probabilities, (T, vocabulary)."""
    import numpy

    from gptcli.engines.gpt2.reference import ReferenceNetwork

    assert checked.gpt2 is not None
    network = ReferenceNetwork(checked.gpt2, checked)

    @numpy.errstate(all="ignore")  # who asks for numbers looks whether they are finite
    def run(ids: Sequence[int]) -> Array:
        states = network.final(ids)
        found = numpy.empty((len(ids), checked.gpt2.vocab_size), numpy.float32)  # type: ignore[union-attr]
        for begin in range(0, len(ids), ROWS):
            logits = network.logits(states[begin : begin + ROWS])
            logits -= logits.max(axis=1, keepdims=True)
            logits -= numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))
            found[begin : begin + ROWS] = logits
        return found

    return run


def _scored(run: Callable[[Sequence[int]], Array], ids: Sequence[int]) -> Iterator[float]:
    """The log-probability of each token but the first, after those before it."""
    found = run(ids[:-1])
    return (float(found[place, id]) for place, id in enumerate(ids[1:]))


def _compared(
    run: Callable[[Sequence[int]], Array], proof: Proof | None
) -> tuple[int, float | None]:
    """How many tokens were compared, and the largest difference; not a number if one is none."""
    compared, largest = 0, None
    for ids, logprobs in zip(proof.ids, proof.logprobs, strict=True) if proof else ():
        if compared + len(logprobs) > MOST_COMPARED and compared:
            break
        differences = [abs(a - b) for a, b in zip(_scored(run, ids), logprobs, strict=True)]
        compared += len(differences)
        worst = max(differences) if all(map(math.isfinite, differences)) else math.nan
        largest = worst if largest is None or not worst <= largest else largest
    return compared, largest
