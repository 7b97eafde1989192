"""A dry run shows the prompts that a run asks for, as far as no answer decides them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.fake_engine import INFO, FakeEngine

from gptcli.errors import BadInput
from gptcli.options import Overflow, Sampling
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.prompts import Wording, worded
from gptcli.tasks.rehearsal import rehearse
from gptcli.tasks.run_context import prepared
from gptcli.tasks.solver import solve

ROOM = replace(INFO, context=1000)
LONG = "\n\n".join(f"Sentence number {n} of a long text. And one more." for n in range(200))


def wording_of(name: str, **chosen: object) -> Wording:
    task = catalog.find(name)
    defaults = {option.name: option.default for option in task.options}
    return worded(task, defaults | chosen)  # type: ignore[arg-type]


def asked_in_a_run(wording: Wording, question: Question, sampling: Sampling) -> list[str]:
    engine = FakeEngine(reply=lambda request: " Yes.\n", info=ROOM, asked=[])
    found = list(solve(engine, wording, [question], sampling))
    assert isinstance(found[-1], Answer)
    assert found[-1].error is None
    return [request.prompt for request in engine.asked or ()]


@pytest.mark.parametrize("text", ["It rains.", LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("summarize", {}),
        ("summarize", {"strategy": "each"}),
        ("summarize", {"strategy": "truncate"}),
        ("translate", {}),
        ("extract", {}),
    ],
)
def test_the_prompts_are_those_of_a_run(name: str, chosen: dict[str, object], text: str) -> None:
    wording, sampling = wording_of(name, **chosen), Sampling(seed=1, max_new_tokens=100)
    question = Question("0", text)
    found = rehearse(prepared(FakeEngine(info=ROOM), wording, sampling), question)
    run = asked_in_a_run(wording, question, sampling)
    assert found.error is None
    assert list(found.prompts) == run[: len(found.prompts)]
    assert found.continued == (len(run) > len(found.prompts))
    reduced = name == "summarize" and not chosen and text == LONG
    assert found.continued == reduced
    assert (len(found.prompts) > 1) == (text == LONG and "truncate" not in chosen.values()) or (
        name == "translate"
    )


def test_the_passage_that_a_question_is_about_is_found_in_a_dry_run() -> None:
    wording = wording_of("answer", context=LONG)
    question = Question("0", "What is number 150?")
    found = rehearse(prepared(FakeEngine(info=ROOM), wording, Sampling()), question)
    assert list(found.prompts) == asked_in_a_run(wording, question, Sampling())
    assert "number 150 " in found.prompts[0]


@pytest.mark.parametrize("side", ["error", "truncate-left", "truncate-right"])
def test_a_text_that_would_be_refused_is_an_error(side: Overflow) -> None:
    wording = wording_of("code")
    context = prepared(FakeEngine(info=ROOM), wording, Sampling(), side)
    found = rehearse(context, Question("0", LONG))
    assert (found.error is None) == (side != "error")
    if found.error:
        assert "prompt too long" in found.error.what


def test_an_input_that_could_not_be_read_has_no_prompt() -> None:
    bad = BadInput("line 1", "invalid UTF-8", "")
    context = prepared(FakeEngine(info=ROOM), wording_of("summarize"), Sampling())
    found = rehearse(context, Question("1", "", bad))
    assert (found.prompts, found.error) == ((), bad)
