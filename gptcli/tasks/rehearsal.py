"""A dry run of a task: the prompts that would be run, as far as no answer decides them.

The plan of each input is started as in a run, so texts are cut and split in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from gptcli.errors import BadInput, GptcliError
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.plans import plan
from gptcli.tasks.run_context import RunContext


@dataclass(frozen=True)
class RehearsedQuestion:
    """The first prompts of one input; `error` where there would be none, or they would fail.

    `continued`: further prompts follow, made of the answers.
    """

    prompts: tuple[str, ...]
    continued: bool = False
    error: GptcliError | None = None


def rehearse(context: RunContext, question: Question) -> RehearsedQuestion:
    """Start the plan of a question and look at its first requests."""
    steps = plan(context, question)
    try:
        asks = next(steps)
    except StopIteration as done:
        answers: tuple[Answer, ...] = done.value
        return RehearsedQuestion((), error=answers[0].error)
    steps.close()
    prompts = tuple(ask.prompt for ask in asks)
    return RehearsedQuestion(
        prompts, not all(ask.final for ask in asks), _too_long(context, prompts)
    )


def _too_long(context: RunContext, prompts: tuple[str, ...]) -> GptcliError | None:
    """The error that the engine would give for a prompt that was not split or cut."""
    longest = max(map(context.count, prompts), default=0)
    if longest < context.limit:
        return None
    return BadInput(
        "prompt too long",
        f"it has {longest} tokens, but {context.limit} are allowed, new ones included",
        "Shorten it, or cut it with --on-overflow truncate-left or truncate-right",
    )
