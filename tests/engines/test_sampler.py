"""Sampling: the same sets and probabilities as transformers' processors, one stream per row."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as reference

from gptcli.engines.decoding import sampler as sampler_module
from gptcli.engines.decoding import vocabulary_ops
from gptcli.engines.decoding.sampler import (
    SamplerState,
    ScoredToken,
    TokenRules,
    compile_rules,
)
from gptcli.engines.decoding.sampler_state import MAX_LOOP_PERIOD, MIN_LOOP_REPEATS, MIN_LOOP_TOKENS
from gptcli.errors import UsageError
from gptcli.options import Sampling

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
SIZES = (11, 300, 50257)
TIED_TOKENS = 16
SMALL = vocabulary_ops.SMALL


# The sampler works on NumPy arrays, transformers on tensors that share their memory.


def sample(logits: Tensor, rows: Sequence[SamplerState]) -> list[int]:
    return sampler_module.sample(logits.numpy(), rows)


def filtered(row: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    probabilities, ids = sampler_module.filtered(row.numpy(), sampling)
    return torch.from_numpy(probabilities), torch.from_numpy(ids)


def logprobs_of(logits: Tensor, tokens: Sequence[int], top: int) -> list[ScoredToken]:
    return sampler_module.logprobs_of(logits.numpy(), tokens, top)


def finite(logits: Tensor) -> list[bool]:
    return sampler_module.finite(logits.numpy())


def random_logits(rows: int, size: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * spread


def spread_out(logits: Tensor, sampling: Sampling) -> Tensor:
    """What the filters leave as probabilities over the vocabulary, (B, V)."""
    left = torch.zeros_like(logits)
    for row, own in zip(left, logits, strict=True):
        probabilities, ids = filtered(own, sampling)
        assert len(set(ids.tolist())) == len(ids)
        row[ids] = probabilities
    return left


def make_row(
    prompt: Sequence[int] = (), rules: TokenRules | None = None, **options: object
) -> SamplerState:
    sampling = Sampling(**{**OFF, **options})
    return SamplerState(sampling, seed=1, index=0, prompt=list(prompt), rules=rules or TokenRules())


def has_processors(row: SamplerState, logits: Tensor) -> Tensor:
    changed = logits.clone()
    row.process_logits(changed.numpy())
    return changed


def same_filter(logits: Tensor, processors: Sequence[object], **options: object) -> None:
    """The filters leave the tokens and the probabilities that the reference chain leaves.

    The chain runs in float64. Over a whole vocabulary a sum of float32 passes a limit a little
    earlier or later; there, and only there, the tokens at the border may differ.
    """
    expected = logits.double()
    for process in processors:
        expected = process(None, expected)
    expected = expected.softmax(-1)
    got = spread_out(logits, Sampling(**{**OFF, **options})).double()
    common = (got > 0) & (expected > 0)
    border = torch.maximum(got, expected).masked_fill(common, 0).sum(-1)
    assert border.max() <= (1e-4 if logits.shape[-1] > 1000 else 0)
    shares = [part * common / (part * common).sum(-1, keepdim=True) for part in (got, expected)]
    assert torch.allclose(*shares, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("heat", [0.1, 0.7, 1.0, 1.9])
def test_temperature_is_that_of_transformers(size: int, heat: float) -> None:
    # A narrow spread, as exp(-87) and less is 0 for one and the least float for the other.
    warper = reference.TemperatureLogitsWarper(heat)
    same_filter(random_logits(3, size, spread=0.8), [warper], temperature=heat)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("top_k", [1, 5, 50, 10**9])
def test_top_k_is_that_of_transformers(size: int, top_k: int) -> None:
    same_filter(random_logits(3, size), [reference.TopKLogitsWarper(top_k)], top_k=top_k)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("top_p", [1e-6, 0.1, 0.5, 0.95, 0.999])
def test_top_p_is_that_of_transformers(size: int, top_p: float) -> None:
    same_filter(random_logits(3, size), [reference.TopPLogitsWarper(top_p)], top_p=top_p)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("min_p", [1e-6, 0.05, 0.5, 1.0])
def test_min_p_is_that_of_transformers(size: int, min_p: float) -> None:
    same_filter(random_logits(3, size), [reference.MinPLogitsWarper(min_p)], min_p=min_p)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("typical_p", [0.01, 0.2, 0.9, 0.999])
def test_typical_p_is_that_of_transformers(size: int, typical_p: float) -> None:
    warper = reference.TypicalLogitsWarper(typical_p)
    same_filter(random_logits(3, size), [warper], typical_p=typical_p)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("heat", "top_k", "top_p", "min_p", "typical_p"),
    [
        (0.8, 50, 0.95, 0.0, 1.0),
        (1.3, 7, 0.6, 0.1, 0.8),
        (0.7, 0, 0.9, 0.02, 0.9),
        (1.5, 200, 0.99, 0.01, 0.5),
        (1.1, 0, 0.999, 0.0, 0.95),
        (0.9, 40, 1.0, 0.05, 0.7),
    ],
)
def test_filters_combine_as_in_transformers(
    size: int, heat: float, top_k: int, top_p: float, min_p: float, typical_p: float
) -> None:
    chain: list[object] = [reference.TemperatureLogitsWarper(heat)]
    chain += [reference.TopKLogitsWarper(top_k)] if top_k else []
    chain += [reference.TopPLogitsWarper(top_p)] if top_p < 1 else []
    chain += [reference.MinPLogitsWarper(min_p)] if min_p else []
    chain += [reference.TypicalLogitsWarper(typical_p)] if typical_p < 1 else []
    for seed in range(3):
        same_filter(
            random_logits(4, size, seed=seed),
            chain,
            temperature=heat,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
        )


def test_tokens_that_tie_with_the_kth_stay_as_in_transformers() -> None:
    logits = torch.zeros(1, 100)
    for tied in (TIED_TOKENS // 2, TIED_TOKENS, TIED_TOKENS + 1, TIED_TOKENS + 2, 97):
        logits[0, :3], logits[0, 3 : 3 + tied] = 5.0, 4.0
        same_filter(logits, [reference.TopKLogitsWarper(4)], top_k=4)


def test_top_k_of_a_flat_distribution_keeps_all_as_in_transformers() -> None:
    probabilities, _ = filtered(torch.zeros(1000), Sampling(**{**OFF, "top_k": 10}))
    assert int((probabilities > 0).sum()) == 1000


def test_rows_with_and_without_many_ties_go_together() -> None:
    logits = torch.cat([torch.zeros(1, 200), random_logits(1, 200)])
    probabilities = spread_out(logits, Sampling(**{**OFF, "top_k": 5}))
    assert (probabilities > 0).sum(-1).tolist() == [200, 5]


def test_top_p_of_a_flat_vocabulary_looks_beyond_its_head() -> None:
    probabilities, _ = filtered(torch.zeros(4 * SMALL), Sampling(**{**OFF, "top_p": 0.5}))
    assert int((probabilities > 0).sum()) == 2 * SMALL


def test_filtering_keeps_the_logits() -> None:
    logits = random_logits(2, 300)
    before = logits.clone()
    for row in logits:
        filtered(row, Sampling(top_k=9, top_p=0.5, min_p=0.1, typical_p=0.5))
    assert torch.equal(logits, before)


def test_at_temperature_0_all_probability_is_on_the_likeliest() -> None:
    logits = random_logits(3, 300)
    left = [filtered(row, Sampling(temperature=0)) for row in logits]
    assert [ids.tolist() for _, ids in left] == logits.argmax(-1, keepdim=True).tolist()
    assert [probabilities.tolist() for probabilities, _ in left] == [[1.0]] * 3


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=40),
    st.integers(0, 45),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.floats(0.01, 100),
)
@settings(max_examples=150, deadline=None)
def test_any_filter_leaves_the_likeliest_candidates_and_probabilities_that_sum_to_1(
    values: list[float], top_k: int, top_p: float, min_p: float, typical_p: float, heat: float
) -> None:
    sampling = Sampling(
        temperature=heat, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p
    )
    probabilities, ids = filtered(torch.tensor(values), sampling)
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    assert len(set(ids.tolist())) == len(ids)


def kept_by(logits: Tensor, sampling: Sampling) -> list[list[float]]:
    """The logits of each row that our filters leave, sorted."""
    kept = spread_out(logits, sampling) > 0
    return [sorted(row[mask].tolist()) for row, mask in zip(logits, kept, strict=True)]


def kept_by_transformers(logits: Tensor, sampling: Sampling) -> list[list[float]]:
    """The logits of each row that the same processors of transformers leave in float32, sorted.

    Not their ids: which of equally likely tokens top-p removes depends on how torch sorts them.
    """
    chain: list[object] = [reference.TemperatureLogitsWarper(sampling.temperature)]
    chain += [reference.TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    chain += [reference.TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    chain += [reference.MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []
    chain += [reference.TypicalLogitsWarper(sampling.typical_p)] if sampling.typical_p < 1 else []
    scores = logits
    for process in chain:
        scores = process(None, scores)  # type: ignore[operator]
    return [sorted(row[mask].tolist()) for row, mask in zip(logits, scores.isfinite(), strict=True)]


@pytest.mark.parametrize("size", [2, 4, 5, 8, 10, 20, 64, 100, 2 * SMALL])
@pytest.mark.parametrize("option", ["top_p", "typical_p", "min_p", "top_k"])
def test_exact_borders_of_equal_tokens_are_those_of_transformers(size: int, option: str) -> None:
    logits = torch.zeros(1, size)
    for part in range(1, min(size, 20)):
        value = part if option == "top_k" else part / min(size, 20)
        sampling = Sampling(**{**OFF, option: value})
        assert kept_by(logits, sampling) == kept_by_transformers(logits, sampling), value


@given(
    powers=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.integers(0, 40),
    top_p=st.integers(1, 16),
    min_p=st.sampled_from([0.0, 0.0625, 0.25, 0.5, 1.0]),
    typical_p=st.integers(1, 16),
)
def test_ties_and_exact_borders_are_those_of_transformers(
    powers: list[int], temperature: float, top_k: int, top_p: int, min_p: float, typical_p: int
) -> None:
    # Probabilities are powers of two over one sum, so that sums often meet a limit exactly.
    logits = torch.tensor([powers, powers[::-1]]).float() * math.log(2)
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p / 16,
        min_p=min_p,
        typical_p=typical_p / 16,
    )
    assert kept_by(logits, sampling) == kept_by_transformers(logits, sampling)


# Penalties, bans and biases, which depend on the row's past.

PROMPT = [3, 5, 3, 5, 7, 1, 3, 5]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("penalty", [0.5, 1.1, 1.3, 10.0])
def test_repetition_penalty_is_that_of_transformers(size: int, penalty: float) -> None:
    logits = random_logits(1, size)
    row = make_row(PROMPT, repetition_penalty=penalty)
    row.accept(9)
    row.accept(3)
    past = torch.tensor([[*PROMPT, 9, 3]])
    expected = reference.RepetitionPenaltyLogitsProcessor(penalty)(past, logits.clone())
    assert torch.equal(has_processors(row, logits[0]), expected[0])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 10**9])
def test_no_repeat_ngram_is_that_of_transformers(n: int) -> None:
    source = Random(n)
    row = make_row(PROMPT, no_repeat_ngram_size=n)
    past = list(PROMPT)
    for step in range(60):
        logits = random_logits(1, 11, seed=step)
        process = reference.NoRepeatNGramLogitsProcessor(n)
        assert torch.equal(has_processors(row, logits[0]), process(torch.tensor([past]), logits)[0])
        past.append(source.randrange(11))
        row.accept(past[-1])


@pytest.mark.parametrize("written", [0, 1, 2, 3, 4])
def test_min_new_tokens_is_that_of_transformers(written: int) -> None:
    logits = random_logits(1, 11)
    row = make_row(PROMPT, TokenRules(eos=(2, 6)), min_new_tokens=3)
    for _ in range(written):
        row.accept(1)
    process = reference.MinNewTokensLengthLogitsProcessor(len(PROMPT), 3, [2, 6])
    past = torch.tensor([PROMPT + [1] * written])
    assert torch.equal(has_processors(row, logits[0]), process(past, logits)[0])


@pytest.mark.parametrize(
    "bad_words",
    [
        ((4,),),
        ((3, 5, 7),),
        ((5, 2), (3, 5, 9), (8, 5, 4)),
        ((4,), (5, 4), (5, 4, 6)),
        ((1, 3, 5, 3, 5, 7, 1, 3, 5, 2),),
    ],
)
def test_bad_words_are_those_of_transformers(bad_words: tuple[tuple[int, ...], ...]) -> None:
    logits = random_logits(1, 11)
    process = reference.NoBadWordsLogitsProcessor([list(ids) for ids in bad_words])
    for prompt in ([3], PROMPT, [*PROMPT, 7]):
        row = make_row(prompt, TokenRules(bad_words=bad_words))
        assert torch.equal(
            has_processors(row, logits[0]), process(torch.tensor([prompt]), logits)[0]
        )


def test_logit_bias_is_transformers_sequence_bias() -> None:
    logits = random_logits(1, 300)
    bias = {(5,): 2.5, (299,): -100.0, (0,): 0.125}
    row = make_row(PROMPT, TokenRules(bias=tuple((ids[0], value) for ids, value in bias.items())))
    expected = reference.SequenceBiasLogitsProcessor(bias)(torch.tensor([PROMPT]), logits)
    assert torch.equal(has_processors(row, logits[0]), expected[0])


def test_processors_combine_as_in_transformers() -> None:
    bad_words, bias, eos = ((4,), (5, 6)), ((5, 2.0), (7, -3.0)), (2,)
    row = make_row(
        PROMPT,
        TokenRules(bad_words, bias, eos),
        repetition_penalty=1.4,
        no_repeat_ngram_size=2,
        min_new_tokens=5,
    )
    chain = [
        reference.SequenceBiasLogitsProcessor({(id,): value for id, value in bias}),
        reference.RepetitionPenaltyLogitsProcessor(1.4),
        reference.NoRepeatNGramLogitsProcessor(2),
        reference.NoBadWordsLogitsProcessor([list(ids) for ids in bad_words]),
        reference.MinNewTokensLengthLogitsProcessor(len(PROMPT), 5, list(eos)),
    ]
    past, source = list(PROMPT), Random(0)
    for step in range(8):
        logits = random_logits(1, 20, seed=step)
        expected = logits
        for process in chain:
            expected = process(torch.tensor([past]), expected)
        assert torch.allclose(has_processors(row, logits[0]), expected[0], rtol=0, atol=1e-6)
        past.append(source.randrange(20))
        row.accept(past[-1])


def test_presence_and_frequency_penalties_count_the_text_and_not_the_prompt() -> None:
    row = make_row([1, 1, 2], presence_penalty=0.5, frequency_penalty=0.25)
    for token in (3, 4, 3, 3):
        row.accept(token)
    # Token 3 was written three times: 0.5 + 3 * 0.25; token 4 once: 0.5 + 0.25.
    assert has_processors(row, torch.ones(6)).tolist() == [1, 1, 1, -0.25, 0.25, 1]


def test_a_negative_penalty_favours_what_was_written() -> None:
    row = make_row([1], frequency_penalty=-2.0)
    row.accept(0)
    assert has_processors(row, torch.zeros(3)).tolist() == [2, 0, 0]


def test_each_row_of_a_batch_gets_its_own_rules() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0]]).repeat(3, 1)
    banned = make_row([0], TokenRules(bad_words=((1,),)), temperature=0)
    favoured = make_row([0], TokenRules(bias=((0, 9.0),)), temperature=0)
    assert sample(logits, [make_row([0], temperature=0), banned, favoured]) == [1, 2, 0]


def test_a_row_without_rules_is_not_shaped() -> None:
    assert not make_row(PROMPT, top_k=5, min_p=0.1).has_processors


def test_a_row_is_shaped_only_until_its_least_length() -> None:
    row = make_row(PROMPT, min_new_tokens=1)
    before = row.has_processors
    row.accept(1)
    assert (before, row.has_processors) == (True, False)


# The draw.


def improbability(drawn: Sequence[int], probabilities: Sequence[float]) -> float:
    """The p-value of Pearson's chi-square test."""
    counts = Counter(drawn)
    expected = [len(drawn) * share for share in probabilities]
    statistic = sum((counts[i] - mean) ** 2 / mean for i, mean in enumerate(expected))
    half_degrees = torch.tensor((len(expected) - 1) / 2)
    return float(torch.special.gammaincc(half_degrees, torch.tensor(statistic / 2)))


DISTRIBUTION = [0.3, 0.25, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01, 0.01]


def test_a_rows_draws_follow_the_distribution() -> None:
    logits = torch.tensor([DISTRIBUTION]).log()
    row = make_row(top_k=9)  # the last two tokens tie, and stay
    drawn = [sample(logits, [row])[0] for _ in range(10_000)]
    assert improbability(drawn, DISTRIBUTION) > 1e-4


def test_the_first_draws_of_neighbouring_rows_follow_the_distribution() -> None:
    logits = torch.tensor([DISTRIBUTION]).log().expand(10_000, -1)
    rows = [SamplerState(Sampling(**OFF), 0, index, [], TokenRules()) for index in range(10_000)]
    assert improbability(sample(logits, rows), DISTRIBUTION) > 1e-4


def test_the_first_draws_of_neighbouring_seeds_follow_the_distribution() -> None:
    logits = torch.tensor([DISTRIBUTION]).log().expand(10_000, -1)
    rows = [SamplerState(Sampling(**OFF), seed, 0, [], TokenRules()) for seed in range(10_000)]
    assert improbability(sample(logits, rows), DISTRIBUTION) > 1e-4


def test_the_stream_is_a_function_of_seed_and_index() -> None:
    def draws(seed: int, index: int) -> tuple[int, ...]:
        row = SamplerState(Sampling(), seed, index, [1], TokenRules())
        return tuple(row.key() for _ in range(5))

    assert draws(7, 3) == draws(7, 3)
    assert len({draws(seed, index) for seed in (0, 1, 2**63 - 1) for index in range(50)}) == 150


def numbers_of(key: int, ids: list[int]) -> list[float]:
    steps = vocabulary_ops._step(np.array(ids))
    return vocabulary_ops.uniform(vocabulary_ops.hashed(key, steps)).tolist()


def test_the_stream_never_changes_between_versions() -> None:
    row = SamplerState(Sampling(), 42, 1, [], TokenRules())
    keys = [-4241412872000024541, -1563690871288016353, 1371319850086419489]
    assert [row.key() for _ in range(3)] == keys
    numbers = numbers_of(keys[0], [0, 1, 50256])
    assert numbers == [0.7342177250888325, 0.16510913248315384, 0.9725420545929521]


def test_the_numbers_of_a_key_are_those_of_splitmix64() -> None:
    # The generator's published first outputs for the state 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    numbers = numbers_of(1234567, [0, 1, 2])
    assert numbers == [((word >> 12) + 0.5) * 2.0**-52 for word in published]


@pytest.mark.parametrize("options", [{}, {"top_k": 50}, {"top_p": 0.95}, {"temperature": 0.7}])
def test_a_rounding_error_in_the_logits_hardly_ever_changes_a_draw(
    options: dict[str, float],
) -> None:
    logits = random_logits(2000, 5000)
    noise = random_logits(2000, 5000, seed=1).clamp(-3, 3) * 1e-6

    def drawn(scores: torch.Tensor) -> list[int]:
        settings = Sampling(**{**OFF, **options})
        return sample(scores, [SamplerState(settings, i, 0, [], TokenRules()) for i in range(2000)])

    before, after = drawn(logits.clone()), drawn(logits + noise)
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1


MIXED = [
    Sampling(seed=0),
    Sampling(temperature=0),
    Sampling(temperature=1.5, top_k=0, top_p=1.0),
    Sampling(top_k=0, top_p=0.9),
    Sampling(top_k=0, top_p=1.0, min_p=0.02),
    Sampling(top_k=20, typical_p=0.7, repetition_penalty=1.3),
    Sampling(no_repeat_ngram_size=2, presence_penalty=0.5),
    Sampling(greedy=True, frequency_penalty=1.0),
]


def continuation(samplings: Sequence[Sampling], indices: Sequence[int]) -> list[list[int]]:
    """Twelve steps of rows whose logits depend on their last token alone."""
    rows = [
        SamplerState(sampling, 5, index, [index], TokenRules())
        for sampling, index in zip(samplings, indices, strict=True)
    ]
    table = random_logits(60, 60, seed=9)
    texts = [[index] for index in indices]
    for _ in range(12):
        for text, row, token in zip(
            texts, rows, sample(table[[text[-1] for text in texts]], rows), strict=True
        ):
            row.accept(token)
            text.append(token)
    return texts


def test_a_rows_text_does_not_depend_on_its_neighbours() -> None:
    samplings = MIXED * 2
    indices = list(range(len(samplings)))
    alone = [continuation([samplings[i]], [i])[0] for i in indices]
    shuffled = random.Random(1).sample(indices, len(indices))
    together = continuation([samplings[i] for i in shuffled], shuffled)
    assert together == [alone[i] for i in shuffled]


def test_greedy_rows_draw_nothing() -> None:
    greedy, fresh = make_row([1], temperature=0), make_row([1])
    sample(random_logits(1, 50), [greedy])
    assert greedy.key() == fresh.key()


def test_no_rows_give_no_tokens() -> None:
    assert sample(torch.empty(0, 7), []) == []


def test_the_draw_changes_shaped_rows_alone() -> None:
    logits = random_logits(2, 50)
    before = logits.clone()
    sample(logits, [make_row([1]), make_row([1], repetition_penalty=2.0)])
    assert torch.equal(logits[0], before[0])
    assert not torch.equal(logits[1], before[1])


EDGES = [0, 2**63, 2**64 - 1]  # the numbers 2**-53, 0.5 + 2**-53 and 1 - 2**-53


@pytest.mark.parametrize("word", EDGES)
@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}, {"typical_p": 0.9}])
def test_the_only_possible_token_is_taken(
    word: int, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        vocabulary_ops, "hashed", lambda _, steps: np.full(steps.shape, word, np.uint64)
    )
    logits = torch.full((1, 50), -math.inf)
    logits[0, 31] = -4.0
    assert sample(logits, [make_row(**options)]) == [31]


@pytest.mark.parametrize("word", EDGES)
def test_a_token_of_probability_0_is_never_taken(
    word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        vocabulary_ops, "hashed", lambda _, steps: np.full(steps.shape, word, np.uint64)
    )
    logits = torch.full((1, 50257), -math.inf)
    logits[0, 100:50000] = random_logits(1, 49900)[0]
    assert 100 <= sample(logits, [make_row()])[0] < 50000


def test_equal_tokens_are_taken_equally_often() -> None:
    rows = [
        SamplerState(Sampling(top_k=4, top_p=1.0), 3, index, [], TokenRules())
        for index in range(10_000)
    ]
    logits = torch.tensor([1.0, 1.0, 1.0, 1.0, -9.0]).expand(10_000, -1)
    assert improbability(sample(logits, rows), [0.25] * 4) > 1e-4


@pytest.mark.parametrize("scale", [1e3, 1e30, 1e38])
def test_a_low_temperature_with_big_logits_takes_the_likeliest(scale: float) -> None:
    logits = random_logits(4, 300, spread=0.5) * scale
    best = logits.argmax(-1).tolist()
    rows = [
        SamplerState(Sampling(temperature=0.01), 0, index, [], TokenRules()) for index in range(4)
    ]
    assert sample(logits, rows) == best


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 0}])
def test_a_hopeless_row_gives_some_id_and_harms_no_other(
    value: float, options: dict[str, float]
) -> None:
    logits = random_logits(2, 50)
    expected = sample(logits[1:].clone(), [make_row(**options)])
    logits[0] = value
    broken, sound = sample(logits, [make_row(**options), make_row(**options)])
    assert 0 <= broken < 50
    assert [sound] == expected


# What is asked of the logits themselves.


def test_logprobs_are_those_of_the_raw_logits() -> None:
    logits = random_logits(2, 300)
    expected = logits.double().log_softmax(-1)
    for place, scored in enumerate(logprobs_of(logits, [17, 4], top=3)):
        best, ids = expected[place].topk(3)
        assert scored.logprob == pytest.approx(expected[place, (17, 4)[place]].item(), abs=1e-5)
        assert scored.top_ids == ids.tolist()
        assert scored.top_logprobs == pytest.approx(best.tolist(), abs=1e-5)


@pytest.mark.parametrize(("top", "given"), [(0, 0), (100, 7)])
def test_no_more_logprobs_than_asked_for_or_than_there_are_tokens(top: int, given: int) -> None:
    (scored,) = logprobs_of(random_logits(1, 7), [2], top)
    assert len(scored.top_ids) == len(scored.top_logprobs) == given


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_is_found(bad: float) -> None:
    logits = random_logits(3, 300)
    logits[1, 299] = bad
    assert finite(logits) == [True, False, True]


def test_opposite_infinities_are_found() -> None:
    assert finite(torch.tensor([[math.inf, -math.inf, 0.0]])) == [False]


def test_huge_finite_logits_are_finite() -> None:
    assert finite(torch.full((1, 300), 3e38)) == [True]


# Loops.


def looping_after(tokens: Sequence[int], prompt: Sequence[int] = ()) -> int | None:
    """How many tokens were accepted when the row first said that it loops."""
    row = make_row(prompt, stop_on_loop=True)
    for count, token in enumerate(tokens, start=1):
        row.accept(token)
        if row.looping:
            return count
    return None


@pytest.mark.parametrize(
    ("period", "noticed"), [(1, 24), (2, 24), (5, 24), (8, 24), (9, 27), (30, 90), (64, 192)]
)
def test_a_loop_is_noticed_as_soon_as_it_is_certain(period: int, noticed: int) -> None:
    opening = [1000 + i for i in range(13)]
    assert looping_after(opening + list(range(period)) * 40) == 13 + noticed


def test_the_limits_are_those_documented() -> None:
    assert (MAX_LOOP_PERIOD, MIN_LOOP_REPEATS, MIN_LOOP_TOKENS) == (64, 3, 24)


@pytest.mark.parametrize(
    "tokens",
    [
        [7] * 23,
        [1, 2] * 11 + [1],
        list(range(30)) * 2 + list(range(29)) + [99],
        list(range(65)) * 5,
        list(range(500)),
        [token for i in range(200) for token in (5, 6, i + 10)],
        [7] * 20 + [8] * 20 + [7] * 20,
    ],
    ids=["short", "short pair", "two and a bit", "too long", "counting", "list", "blocks"],
)
def test_ordinary_text_is_no_loop(tokens: list[int]) -> None:
    assert looping_after(tokens) is None


def test_random_text_over_few_tokens_is_no_loop() -> None:
    source = Random(0)
    assert looping_after([source.randrange(4) for _ in range(5000)]) is None


def test_a_loop_in_the_prompt_does_not_count() -> None:
    assert looping_after([7] * 23, prompt=[7] * 50) is None


def test_a_loop_that_was_left_is_no_loop() -> None:
    row = make_row(stop_on_loop=True)
    for token in [*[7] * 30, 8]:
        row.accept(token)
    assert not row.looping


def test_loops_are_looked_for_only_when_asked() -> None:
    row = make_row()
    for _ in range(100):
        row.accept(7)
    assert not row.looping


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=70))
@settings(max_examples=60, deadline=None)
def test_loops_are_those_of_the_definition(opening: list[int], tail: list[int]) -> None:
    def defined(tokens: list[int]) -> bool:
        for period in range(1, MAX_LOOP_PERIOD + 1):
            length = max(MIN_LOOP_REPEATS * period, MIN_LOOP_TOKENS)
            stretch = tokens[-length:]
            if len(stretch) == length and stretch[period:] == stretch[:-period]:
                return True
        return False

    row, tokens = make_row(stop_on_loop=True), []
    for token in opening + tail * 5:
        row.accept(token)
        tokens.append(token)
        assert row.looping == defined(tokens)


# Texts to ids.

WORDS = {
    "cat": [4],
    " cat": [5],
    "cats": [4, 6],
    " cats": [5, 6],
    " dog": [7],
    "end": [9],
    " far": [9],
}


def encode(text: str) -> list[int]:
    return WORDS.get(text, [])


def compiled(**options: object) -> TokenRules:
    return compile_rules(Sampling(**options), encode, vocab_size=8, eos=(9, 2))


def test_a_bad_word_with_a_space_before_it_is_the_sequence_of_its_tokens() -> None:
    assert compiled(bad_words=(" cat", " cats")).bad_words == ((5,), (5, 6))


def test_a_bad_word_that_is_a_special_token_is_its_id() -> None:
    sampling, special = Sampling(bad_words=("cat", "cats")), {"cat": 4}.get
    rules = compile_rules(sampling, encode, vocab_size=8, eos=(2,), special_id=special)
    assert rules.bad_words == ((4,),)


def test_a_bad_word_that_is_given_twice_counts_once() -> None:
    assert compiled(bad_words=(" cat", "cat", " cat")).bad_words == ((5,),)


def test_a_bad_word_never_forbids_the_end() -> None:
    rules = compile_rules(Sampling(bad_words=(" cat", " dog")), encode, vocab_size=10, eos=(5,))
    assert rules.bad_words == ((7,),)


def test_a_bad_word_outside_the_model_is_left_out() -> None:
    assert compiled(bad_words=(" far", "end")).bad_words == ()


def test_the_models_own_ends_are_kept() -> None:
    assert compiled().eos == (2,)


def test_a_bias_is_for_an_id_or_a_text() -> None:
    rules = compiled(logit_bias=(("3", 1.5), (" dog", -2.0), ("007", 4.0)))
    assert rules.bias == ((3, 1.5), (7, 4.0))


@pytest.mark.parametrize("token", ["8", "50257", "9" * 5000, "end", "cats", "unknown", "²"])
def test_a_bias_for_anything_but_one_known_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="--logit-bias"):
        compiled(logit_bias=((token, 1.0),))
