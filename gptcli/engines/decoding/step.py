"""One step of several sequences: logits in, sampled tokens and their events out.

Both engines end every step here; where the logits come from is their own business.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.engines.decoding.sampler import Scored, finite, logprobs_of, sample
from gptcli.engines.decoding.sequence import Sequence
from gptcli.errors import BadModel
from gptcli.protocol import Alternative, Event, TokenLogprob

IDLE = 0.002  # seconds between two looks for a request when there is nothing else to do


def advance(rows: list[Sequence], logits: Tensor) -> Iterator[Event]:
    """Choose the next token of each row from its logits, float32 (B, vocab), changed in place.

    Gives a Chunk for each row, and its Completion when that was its last; a row whose logits are
    not finite ends with an error. Afterwards `finish_reason` tells which rows go on.
    """
    sound = finite(logits)
    wanted = [row.encoded.request.sampling.logprobs for row in rows]
    raw = logits if all(top is None for top in wanted) else logits.clone()
    tokens = sample(logits, [row.row for row in rows])
    for place, (row, token, top) in enumerate(zip(rows, tokens, wanted, strict=True)):
        if not sound[place]:
            yield from row.fail(not_finite(row.encoded.info.name, len(row.tokens) + 1))
            continue
        logprob = None
        if top is not None:
            scored = logprobs_of(raw[place : place + 1], [token], top)[0]
            logprob = _named(token, scored, row.encoded.tokenizer)
        yield row.push(token, logprob)
        if row.finish_reason:
            yield row.completion()


def advance_drafted(
    rows: list[Sequence], drafts: list[list[int]], logits: Tensor, starts: list[int]
) -> Iterator[Event]:
    """Choose the next tokens of each row: one, and one more as long as its draft came true.

    logits: float32 (N, vocab), changed in place; from starts[i] on, those after row i's newest
    token and after each one drafted.
    """
    live, depth = list(range(len(rows))), 0
    while live:
        places = [starts[row] + depth for row in live]
        few = logits if len(places) == len(logits) else logits[places]
        yield from advance([rows[row] for row in live], few)
        live = [
            row
            for row in live
            if not rows[row].finish_reason
            and drafts[row][depth : depth + 1] == rows[row].tokens[-1:]
        ]
        depth += 1


def _named(token: int, scored: Scored, tokenizer: Tokenizer) -> TokenLogprob:
    """A token's log-probabilities with the texts of the tokens."""
    text = tokenizer.token_text
    best = zip(scored.top_ids, scored.top_logprobs, strict=True)
    others = tuple(Alternative(id, text(id), value) for id, value in best)
    return TokenLogprob(token, text(token), scored.logprob, others)


def not_finite(name: str, place: int) -> BadModel:
    """The error where the model's scores of the `place`-th new token are NaN or infinite."""
    return BadModel(
        name,
        f"the model produced non-finite scores at token {place}",
        "Its weights hold NaN or infinity, or overflow in this dtype:"
        " get the model again, or try --dtype float32",
    )
