"""Requests with choices: how likely each is, against transformers' own arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.engines import built_in, by_torch, completions, through_transformers
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.options import Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Completion,
    Engine,
    GenerateRequest,
    LoglikelihoodRequest,
    Request,
)

PROMPT = "Once upon a time an old king"
CHOICES = (" had", " had three sons", " x", " was sitting in the forest of the golden bird")


@pytest.fixture(
    scope="module",
    params=[built_in, by_torch, through_transformers],
    ids=["gpt2", "gpt2-torch", "auto"],
)
def engine(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    return request.param(tiny)


def ask(
    prompt: str, choices: tuple[str, ...] = CHOICES, id: str = "0", **more
) -> LoglikelihoodRequest:
    return LoglikelihoodRequest(id=id, prompt=prompt, choices=choices, **more)


def scores(engine: Engine, asked: list[Request]) -> list[ChoiceLogprobs]:
    done = [event for event in engine.run(asked) if isinstance(event, ChoiceLogprobs)]
    return sorted(done, key=lambda score: int(score.id))


def reference(folder: Path, prompt: str, choice: str) -> list[float]:
    """By transformers' logits: the log-probability of each token of the choice."""
    encode = load_tokenizer(folder).encode
    before, after = encode(prompt) or [0], encode(choice)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
    places = range(len(before) - 1, len(before) + len(after) - 1)
    return [logits[place, id].item() for place, id in zip(places, after, strict=True)]


@pytest.mark.parametrize("choice", CHOICES)
def test_likelihoods_equal_those_of_transformers(engine: Engine, tiny: Path, choice: str) -> None:
    [score] = scores(engine, [ask(PROMPT)])
    found = score.choices[CHOICES.index(choice)]
    assert found.text == choice
    assert found.logprobs == pytest.approx(reference(tiny, PROMPT, choice), abs=1e-4)
    assert found.total == pytest.approx(sum(found.logprobs))


def test_an_empty_prompt_is_the_beginning_of_a_document(engine: Engine, tiny: Path) -> None:
    [score] = scores(engine, [ask("", (" king of",))])
    assert score.choices[0].logprobs == pytest.approx(reference(tiny, "", " king of"), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_a_score_does_not_depend_on_its_neighbours(tiny: Path, batch_size: int) -> None:
    prompts = [PROMPT[: 4 + 3 * n] for n in range(8)] * 2
    asked = [ask(prompt, CHOICES[: 1 + n % 4], str(n)) for n, prompt in enumerate(prompts)]
    together = scores(built_in(tiny, batch_size), asked)
    alone = [scores(built_in(tiny, 1), [request])[0] for request in asked]
    for one, other in zip(together, alone, strict=True):
        for ours, theirs in zip(one.choices, other.choices, strict=True):
            assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


def test_scored_and_written_requests_mix(tiny: Path) -> None:
    engine = built_in(tiny, 3)
    write = Sampling(greedy=True, max_new_tokens=6)
    asked = [
        ask(PROMPT, id=str(n))
        if n % 2
        else GenerateRequest(id=str(n), prompt=PROMPT, sampling=write)
        for n in range(9)
    ]
    events = list(engine.run(asked))
    texts = {event.text for event in events if isinstance(event, Completion)}
    assert texts == {completions(built_in(tiny), [asked[0]])[0].text}
    assert [event.id for event in events if isinstance(event, ChoiceLogprobs)] == [
        "1",
        "3",
        "5",
        "7",
    ]


def test_choices_fit_up_to_the_last_token_of_the_context(engine: Engine) -> None:
    def with_prompt(tokens: int) -> ChoiceLogprobs:
        text = " king" * tokens
        assert engine.count(text) == tokens
        return scores(engine, [ask(text, (" king king king",))])[0]

    fits = with_prompt(engine.info.context - 2)  # the last token is predicted, not read
    assert fits.error is None
    assert len(fits.choices[0].logprobs) == 3
    refused = with_prompt(engine.info.context - 1)
    assert refused.error is not None
    assert refused.error.exit_code == 65
    assert "63 tokens, but the context of" in str(refused.error)
    assert "is 64, the longest choice included" in str(refused.error)
    assert refused.choices == ()


def test_a_prompt_is_cut_where_asked(engine: Engine) -> None:
    [score] = scores(engine, [ask(" king" * 100, (" of",), on_overflow="truncate-left")])
    assert (score.truncated, score.usage.prompt_tokens) == (36, 64)


@pytest.mark.parametrize("choice", ["", " king" * 65])
def test_an_impossible_choice_is_refused(engine: Engine, choice: str) -> None:
    [score] = scores(engine, [ask(PROMPT, (" a", choice))])
    assert score.error is not None
    assert score.error.exit_code == 65


def test_a_model_of_nan_gives_an_error_not_numbers(make_tiny) -> None:
    import safetensors.torch

    folder = make_tiny(seed=11)
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["transformer.ln_f.weight"][:] = float("nan")
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    [score] = scores(built_in(folder), [ask(PROMPT)])
    assert score.error is not None
    assert "non-finite" in str(score.error)


@pytest.mark.parametrize(
    ("prompt", "choice"), [("@ bird " * 5, " a"), ("a bird", " so @ bird " * 5)]
)
def test_what_a_score_of_nan_leaves_spoils_nothing(make_tiny, prompt: str, choice: str) -> None:
    import safetensors.torch

    folder = make_tiny(seed=11)
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    token = load_tokenizer(folder).encode("@")[0]
    # Only "@" has a value in the last dimension, and that one overflows.
    tensors["transformer.wte.weight"][:, -1] = 0
    tensors["transformer.wpe.weight"][:, -1] = 0
    tensors["transformer.wte.weight"][token, -1] = 20
    tensors["transformer.ln_f.weight"][-1] = 0
    tensors["transformer.h.0.ln_1.weight"][-1] = 3e38
    tensors["transformer.h.0.attn.c_attn.weight"][-1] = 0
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    engine = built_in(folder, 2)
    [score] = scores(engine, [ask(prompt, (choice, " b"))])
    assert score.error is not None
    write = Sampling(greedy=True, max_new_tokens=3)
    texts = enumerate((PROMPT + PROMPT, "a bird"))  # behind the shorter lies what was left
    asked = [GenerateRequest(id=str(n), prompt=text, sampling=write) for n, text in texts]
    found = completions(engine, asked)
    assert [done.error for done in found] == [None, None]


def test_a_cancelled_score_is_none(tiny: Path) -> None:
    engine = built_in(tiny, 1)

    def asked():
        yield ask(PROMPT, id="0")
        engine.cancel("1")
        yield ask(PROMPT, id="1")

    cancelled = scores(engine, asked())[1]
    assert (cancelled.choices, cancelled.notices) == ((), ("cancelled",))
