"""End of a step: logits in, sampled tokens and their events out.

Both local engines end every step here. Where the logits come from is decided by the engine.
"""

from __future__ import annotations

from collections.abc import Iterator

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.sampler import ScoredToken, finite, logprobs_of, sample
from gptcli.engines.decoding.sequence import Sequence
from gptcli.engines.decoding.vocabulary_ops import Floats
from gptcli.errors import BadModel
from gptcli.protocol import Alternative, Event, TokenLogprob

IDLE_SECONDS = 0.002  # between two polls for a request when the engine is idle


def advance(sequences: list[Sequence], logits: Floats) -> Iterator[Event]:
    """Sample the next token of each sequence from its logits, float32 (B, vocab), changed in place.

    Yields a Chunk for each sequence, and its Completion after its last token. A sequence whose
    logits are not finite ends with an error. Afterwards `finish_reason` is None where it goes on.
    """
    sound = finite(logits)
    wanted = [sequence.encoded.request.sampling.logprobs for sequence in sequences]
    changed = any(sequence.sampler.has_processors for sequence in sequences)
    raw = logits.copy() if changed and any(top is not None for top in wanted) else logits
    tokens = sample(logits, [sequence.sampler for sequence in sequences])
    for place, (sequence, token, top) in enumerate(zip(sequences, tokens, wanted, strict=True)):
        if not sound[place]:
            yield from sequence.fail(
                not_finite(sequence.encoded.info.name, len(sequence.tokens) + 1)
            )
            continue
        if sequence.sampler.stuck:
            yield from sequence.give_up()
            continue
        logprob = None
        if top is not None:
            scored = logprobs_of(raw[place : place + 1], [token], top)[0]
            logprob = _named(token, scored, sequence.encoded.tokenizer)
        yield sequence.push(token, logprob)
        if sequence.finish_reason:
            yield sequence.completion()


def advance_drafted(
    sequences: list[Sequence], drafts: list[list[int]], logits: Floats, starts: list[int]
) -> Iterator[Event]:
    """Sample the next tokens of each sequence: one, and one more for each accepted draft token.

    logits: float32 (N, vocab), changed in place; from starts[i] on, those after the newest token of
    sequence i and after each token of its draft.
    """
    live, depth = list(range(len(sequences))), 0
    while live:
        places = [starts[row] + depth for row in live]
        few = logits if len(places) == len(logits) else logits[places]
        yield from advance([sequences[row] for row in live], few)
        live = [
            row
            for row in live
            if not sequences[row].finish_reason
            and drafts[row][depth : depth + 1] == sequences[row].tokens[-1:]
        ]
        depth += 1


def _named(token: int, scored: ScoredToken, tokenizer: Tokenizer) -> TokenLogprob:
    """Log-probability and alternatives of a token, with their texts."""
    text = tokenizer.token_text
    best = zip(scored.top_ids, scored.top_logprobs, strict=True)
    others = tuple(Alternative(id, text(id), value) for id, value in best)
    return TokenLogprob(token, text(token), scored.logprob, others)


def not_finite(name: str, place: int) -> BadModel:
    """The error for logits of the `place`-th new token that are NaN or infinite."""
    return BadModel(
        name,
        f"the model produced non-finite scores at token {place}",
        "Its weights hold NaN or infinity, or overflow in this dtype:"
        " get the model again, or try --dtype float32",
    )
