"""The kinds of request: what each is refused with, by itself and by every engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.engines import built_in, through_transformers
from support.fake_engine import INFO, failing

import gptcli
from gptcli.errors import BadInput
from gptcli.options import Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    Request,
    Result,
    RollingRequest,
    Usage,
    Window,
    WindowLogprobs,
)

WHY = BadInput("prompt too long", "70 tokens for 64", "Cut it.")
NOTHING = Usage(prompt_tokens=0, completion_tokens=0)
LONG = "Once upon a time " * 90
KINDS: list[tuple[Request, type[Result]]] = [
    (GenerateRequest(id="7", prompt=LONG, sampling=Sampling(seed=3)), Completion),
    (LoglikelihoodRequest(id="7", prompt=LONG, choices=(" a", " b")), ChoiceLogprobs),
    (RollingRequest(id="7", window=Window((1,) * 99)), WindowLogprobs),
]
each_kind = pytest.mark.parametrize(
    ("request_", "kind"), KINDS, ids=[kind.__name__ for _, kind in KINDS]
)


@each_kind
def test_each_kind_is_refused_with_its_own_result(request_: Request, kind: type[Result]) -> None:
    refusal = request_.refused(WHY, INFO)
    assert type(refusal) is kind
    assert (refusal.id, refusal.error, refusal.usage) == ("7", WHY, NOTHING)
    assert (refusal.model, refusal.revision) == (INFO.name, INFO.revision)


def test_a_refused_completion_is_an_error_with_the_seed_that_was_asked_for() -> None:
    done = KINDS[0][0].refused(WHY, INFO)
    assert isinstance(done, Completion)
    assert (done.finish_reason, done.text, done.tokens, done.seed) == ("error", "", (), 3)
    assert done.prompt == LONG


def test_refused_choices_and_windows_have_no_numbers() -> None:
    _, (choices, _), (window, _) = KINDS
    refused = choices.refused(WHY, INFO), window.refused(WHY, INFO)
    assert isinstance(refused[0], ChoiceLogprobs)
    assert isinstance(refused[1], WindowLogprobs)
    assert (refused[0].choices, refused[0].prompt, refused[1].tokens) == ((), LONG, ())


@pytest.mark.parametrize("opened", [built_in, through_transformers], ids=["gpt2", "auto"])
@each_kind
def test_an_engine_gives_a_refusal_of_the_requests_kind_and_goes_on(
    tiny: Path, opened, request_: Request, kind: type[Result]
) -> None:
    after = LoglikelihoodRequest(id="8", prompt="Once", choices=(" a",))
    refusal, found = opened(tiny).run([request_, after])
    assert type(refusal) is kind
    assert isinstance(refusal.error, BadInput)
    assert (refusal.id, refusal.usage) == ("7", NOTHING)
    assert found.error is None


@each_kind
def test_the_engine_of_the_tests_refuses_likewise(request_: Request, kind: type[Result]) -> None:
    [refusal] = failing().run([request_])
    assert type(refusal) is kind
    assert isinstance(refusal.error, BadInput)


@pytest.mark.parametrize("opened", [built_in, through_transformers], ids=["gpt2", "auto"])
def test_a_request_without_choices_is_refused_not_continued(tiny: Path, opened) -> None:
    [found] = opened(tiny).run([LoglikelihoodRequest(id="0", prompt="Once", choices=())])
    assert isinstance(found, ChoiceLogprobs)
    assert isinstance(found.error, BadInput)


def test_a_request_knows_how_many_results_end_it() -> None:
    three = GenerateRequest(id="0", prompt="", sampling=Sampling(num_return_sequences=3))
    assert [three.results, KINDS[1][0].results, KINDS[2][0].results] == [3, 1, 1]


def test_the_kinds_and_events_are_public_names() -> None:
    for name in gptcli.__all__:
        assert getattr(gptcli, name) is not None
    assert gptcli.GenerateRequest is GenerateRequest
    assert gptcli.ChoiceLogprobs is gptcli.Score is ChoiceLogprobs
