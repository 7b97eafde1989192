"""Sampler state of one sequence: token history, bans and biases, random stream.

The text of a row must not depend on its neighbours in the batch. So history and randomness belong
to a `SamplerState`. It keeps only what the settings need, in a form that makes a step cheap:
n-grams in a table, token counts in arrays that NumPy can view.

Logits processors have the meaning and order of transformers' `generation.logits_process`; presence
and frequency penalties are those of OpenAI. Not here: filters and the draw are in
`gptcli.engines.decoding.sampler`.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from gptcli.engines.decoding.bans.automaton import Bans, Ids, State
from gptcli.errors import UsageError
from gptcli.options import Sampling

MAX_LOOP_PERIOD = 64  # tokens; longer loops are not detected
MIN_LOOP_REPEATS = 3  # a refrain sung twice is no loop
MIN_LOOP_TOKENS = 24  # tokens; "ha ha ha", a dotted line and a row of zeros are ordinary text


@dataclass(frozen=True)
class TokenRules:
    """Banned and biased tokens and end tokens, as ids of one model; see `compile_rules`."""

    bad_words: tuple[tuple[int, ...], ...] = ()  # sequences, as transformers' `bad_words_ids`
    bias: tuple[tuple[int, float], ...] = ()
    eos: tuple[int, ...] = ()  # end a text; `min_new_tokens` forbids them
    stops: frozenset[int] = frozenset()  # tokens that the request stops at, by id or by name
    bans: Bans | None = None  # words that no tokens may write
    ban_start: State = ()  # behind the prompt


def compile_rules(
    sampling: Sampling,
    encode: Callable[[str], list[int]],
    vocab_size: int,
    eos: tuple[int, ...],
    special_id: Callable[[str], int | None] = lambda text: None,
) -> TokenRules:
    """Turn `bad_words`, `logit_bias`, `stop` and `stop_token_id` into token ids, once per request.

    `encode` adds no token of the tokenizer's own, and gives none for what the vocabulary lacks. Of
    bad words only sequences are compiled, see `is_sequence`; others are `Bans`. A bias names an
    id where its token is all digits, else a text of exactly one token; the last value for a token
    counts. A stop string that is a special token, by `special_id`, stops there. Raises UsageError
    for any other text of a bias and for an unknown id.
    """
    sequences = dict.fromkeys(
        tuple(encode(word)) for word in sampling.bad_words if is_sequence(word, special_id)
    )
    bad_words = tuple(
        # As in transformers a bad word never forbids the end of the text.
        ids
        for ids in sequences
        if ids and max(ids) < vocab_size and not (len(ids) == 1 and ids[0] in eos)
    )
    bias = {_bias_id(token, encode, vocab_size): value for token, value in sampling.logit_bias}
    named = {id for id in map(special_id, sampling.stop) if id is not None and id < vocab_size}
    for id in sampling.stop_token_id:
        if id >= vocab_size:
            hint = f"Give an id from 0 to {vocab_size - 1}."
            raise UsageError("--stop-token-id", f"{id} is not a token of this model", hint)
    ends = tuple(id for id in eos if id < vocab_size)
    return TokenRules(
        bad_words, tuple(bias.items()), ends, frozenset({*named, *sampling.stop_token_id})
    )


def is_sequence(word: str, special_id: Callable[[str], int | None]) -> bool:
    """Whether a bad word is the sequence of its own tokens alone, not every way to write it.

    So it is with a special token, and with a text that begins with white space.
    """
    return word[0].isspace() or special_id(word) is not None


def _bias_id(token: str, encode: Callable[[str], list[int]], vocab_size: int) -> int:
    if token.isascii() and token.isdigit():
        # Python refuses to read a number of thousands of digits.
        ids = [int(token)] if len(token) <= 18 else [vocab_size]
    else:
        ids = encode(token)
    if not ids:
        why = f"{token!r} is not in this model's vocabulary"
        raise UsageError("--logit-bias", why, f"Give an id from 0 to {vocab_size - 1}, or a text.")
    if len(ids) != 1:
        raise UsageError(
            "--logit-bias",
            f"{token!r} is {len(ids)} tokens in this model",
            "Give a text that is one token (most words need a space before them), or an id.",
        )
    if ids[0] >= vocab_size:
        raise UsageError(
            "--logit-bias",
            f"{token[:20]!r} is not a token of this model",
            f"Give an id from 0 to {vocab_size - 1}, or a text.",
        )
    return ids[0]


class _TokenCounts:
    """Tokens in order of first occurrence, and the count of each.

    Both are arrays, because NumPy can view them without a copy.
    """

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._places: dict[int, int] = {}
        self._ids, self._counts = array("q"), array("f")
        for token in tokens:
            self.add(token)

    def __bool__(self) -> bool:
        return bool(self._ids)

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._ids))
        if place < len(self._ids):
            self._counts[place] += 1
        else:
            self._ids.append(token)
            self._counts.append(1)

    def ids(self) -> NDArray[np.int64]:  # a view; add() fails as long as someone holds it
        return np.frombuffer(self._ids, np.int64)

    def counts(self) -> NDArray[np.float32]:  # a view, too
        return np.frombuffer(self._counts, np.float32)


class _LoopDetector:
    """Detects whether a sequence ends in a loop, in `MAX_LOOP_PERIOD` small steps a token."""

    def __init__(self) -> None:
        self.looping = False
        self._recent: deque[int] = deque([-1] * MAX_LOOP_PERIOD, maxlen=MAX_LOOP_PERIOD)
        # For each period: how many tokens up to now equal the one a period before them.
        self._runs = [0] * MAX_LOOP_PERIOD

    def add(self, token: int) -> None:
        self._runs = [
            run + 1 if old == token else 0
            for run, old in zip(self._runs, self._recent, strict=True)
        ]
        self._recent.appendleft(token)
        self.looping = any(
            run and run + period >= max(MIN_LOOP_REPEATS * period, MIN_LOOP_TOKENS)
            for period, run in enumerate(self._runs, start=1)
        )


class SamplerState:
    """Token history, logits processors and random stream of one sequence.

    `prompt` are the tokens before the first generated one. `index` tells the sequences of one
    prompt apart.
    """

    def __init__(
        self, sampling: Sampling, seed: int, index: int, prompt: Sequence[int], rules: TokenRules
    ) -> None:
        self.sampling, self.rules = sampling, rules
        self.written = 0
        self.stuck = False  # whether every token was banned when one was to be chosen
        self._ban_state = rules.ban_start
        self._random = Random(1 << 96 | seed << 32 | index)
        self._keys: deque[int] = deque()  # drawn ahead by `key_ahead`
        self._history = list(prompt)
        self._followers: dict[tuple[int, ...], list[int]] = {}  # n-1 tokens -> what came after
        size = sampling.no_repeat_ngram_size
        for end in range(size, len(prompt) + 1) if size else ():
            self._add_ngram(self._history[end - size : end])
        self._seen_counts = _TokenCounts(prompt) if sampling.repetition_penalty != 1 else None
        penalised = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self._generated_counts = _TokenCounts() if penalised else None
        self._loop_detector = _LoopDetector() if sampling.stop_on_loop else None
        self._always_processed = bool(
            rules.bias
            or rules.bad_words
            or rules.bans
            or sampling.no_repeat_ngram_size
            or self._seen_counts is not None
            or penalised
        )

    def key(self) -> int:
        """The next key of the row's stream, a signed 64-bit number.

        The k-th call gives the k-th 64 bits of Python's Mersenne Twister, seeded with the integer
        `2**96 + seed * 2**32 + index`: a function of seed, index and k alone, the same on every
        machine. (The 2**96 makes all seeds equally long: the Twister mixes short ones so that
        seed 0, index 2 and seed 1, index 2 would give one stream.)
        """
        return self._keys.popleft() if self._keys else self._draw()

    def key_ahead(self, steps: int) -> int:
        """The key that `key` will give after so many more calls."""
        while len(self._keys) <= steps:
            self._keys.append(self._draw())
        return self._keys[steps]

    def _draw(self) -> int:
        return self._random.getrandbits(64) - 2**63

    def accept(self, token: int) -> None:
        """Record that `token` was written."""
        self.written += 1
        self._history.append(token)
        size = self.sampling.no_repeat_ngram_size
        if 0 < size <= len(self._history):
            self._add_ngram(self._history[-size:])
        for tally in (self._seen_counts, self._generated_counts):
            if tally is not None:
                tally.add(token)
        if self._loop_detector is not None:
            self._loop_detector.add(token)
        if self.rules.bans is not None:
            self._ban_state = self.rules.bans.after(self._ban_state, token)

    @property
    def looping(self) -> bool:
        """Whether the text written (not the prompt) ends in a loop; False without `stop_on_loop`.

        A loop is a stretch of 1 to `MAX_LOOP_PERIOD` tokens that stands at least `MIN_LOOP_REPEATS`
        times in a row, `MIN_LOOP_TOKENS` tokens in all.
        """
        return self._loop_detector is not None and self._loop_detector.looping

    @property
    def has_processors(self) -> bool:
        """Whether a logits processor acts on the next token."""
        return self._always_processed or self.written < self.sampling.min_new_tokens

    def process_logits(self, logits: NDArray[np.float32]) -> None:
        """Apply biases, penalties and bans to the row's `logits` (V,), in place."""
        sampling = self.sampling
        if self.rules.bias:
            ids, values = zip(*self.rules.bias, strict=True)
            logits[list(ids)] += np.array(values, np.float32)
        if self._seen_counts:
            where, penalty = self._seen_counts.ids(), sampling.repetition_penalty
            scores = logits[where]
            logits[where] = np.where(scores < 0, scores * penalty, scores / penalty)
        banned = list(self._banned())
        if banned:
            logits[banned] = -math.inf
        parts = self._word_bans()
        for part in parts:
            logits[part] = -math.inf
        most = len(banned) + sum(map(len, parts))
        self.stuck = most >= len(logits) and bool(logits.max() == -math.inf)
        if self._generated_counts:
            counts = self._generated_counts.counts()
            paid = sampling.presence_penalty + sampling.frequency_penalty * counts
            logits[self._generated_counts.ids()] -= paid

    def forbids(self, token: int) -> bool:
        """Whether the token would write a banned word next."""
        return any(token in ids for ids in self._word_bans())

    def _word_bans(self) -> list[Ids]:
        """The tokens that would write a banned word next, in parts that may overlap."""
        return self.rules.bans.forbidden(self._ban_state) if self.rules.bans else []

    def _banned(self) -> Iterator[int]:
        history, size = self._history, self.sampling.no_repeat_ngram_size
        if 0 < size <= len(history):
            yield from self._followers.get(tuple(history[len(history) - size + 1 :]), ())
        for *start, last in self.rules.bad_words:
            if len(start) <= len(history) and history[len(history) - len(start) :] == start:
                yield last
        if self.written < self.sampling.min_new_tokens:
            yield from self.rules.eos

    def _add_ngram(self, gram: list[int]) -> None:
        self._followers.setdefault(tuple(gram[:-1]), []).append(gram[-1])
