"""The plan of one input: which requests answer it, and what is made of the replies.

A plan is a generator. It yields requests that can run together, receives their replies, and returns
the answers. So a summary of summaries reads like a loop, and the engine still runs the requests of
many inputs side by side. Not here: running plans is in `gptcli.tasks.solver`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import replace

from gptcli.errors import BadInput, GptcliError
from gptcli.options import Overflow
from gptcli.protocol import ChoiceLogprobs, Completion
from gptcli.system.text.sentences import sentences
from gptcli.system.units import counted
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.outcome import answers, failed, results_of
from gptcli.tasks.prompts import resolved, unlike
from gptcli.tasks.run_context import (
    Ask,
    Reply,
    RunContext,
    ask_of,
    check_sampling,
    cut_to_fit,
    field_of,
    fitting,
)
from gptcli.tasks.text.passages import best_window, passages

CUT_ENDS = {"truncate-left": "beginning", "truncate-right": "end", "error": ""}
MAX_REDUCE_RATIO = 0.9  # a round of reduce must shorten the text so much, or it never ends

Steps = Generator[tuple[Ask, ...], tuple[Reply, ...], tuple[Answer, ...]]


def plan(context: RunContext, question: Question) -> Steps:
    """The steps to the answers of one input."""
    if question.error:
        return (failed(context, question, question.error),)
    if question.sampling:
        context = replace(context, sampling=question.sampling)
    if context.sampling.seed is None:  # one for all its requests, so that it can be reported
        drawn = replace(context.sampling, seed=secrets.randbits(32))
        context = replace(context, sampling=drawn)
    if advice := unlike(context.wording, question.text):
        context = replace(context, notices=(*context.notices, advice))
    try:
        check_sampling(context.wording.task, context.wording.chosen, context.sampling)
        long = context.wording.task.long
        strategy = str(resolved(long.strategy, context.wording.chosen))
        steps = STRATEGIES["whole" if context.kind == "labels" else strategy]
        return (yield from steps(context, question))
    except GptcliError as error:
        return (failed(context, question, error),)


def _whole(context: RunContext, question: Question, side: Overflow | None = None) -> Steps:
    """One prompt. An input that does not fit is cut at `side`, or as --on-overflow says."""
    text, side = field_of(context, question), side or context.on_overflow
    kept = text if side == "error" else cut_to_fit(text, side, fitting(context, question))
    cut = context.count(text) - context.count(kept) if kept != text else 0
    replies = yield (ask_of(context, question, kept),)
    blank = failed(context, question, None)
    start = len(text) - len(kept) if side == "truncate-left" else 0
    if cut:
        notice = f"input cut by {counted(cut, 'token')} at its {CUT_ENDS[side]} to fit the context"
        blank = replace(blank, truncated=cut, notices=(notice,))
    return answers(context, question, replies, blank, starts=(start,))


def _truncated(context: RunContext, question: Question) -> Steps:
    side = context.on_overflow if context.on_overflow != "error" else "truncate-right"
    return (yield from _whole(context, question, side))


def _window(context: RunContext, question: Question) -> Steps:
    """One prompt, with the passage that has most words in common with the question."""
    text, fits = field_of(context, question), fitting(context, question)
    if fits(text):
        return (yield from _whole(context, question))
    start, end = best_window(text, question.text, fits)
    context.say(f"reading characters {start} to {end} of {len(text)}")
    replies = yield (ask_of(context, question, text[start:end]),)
    notice = f"the text does not fit the context: characters {start} to {end} were read"
    blank = replace(failed(context, question, None), notices=(notice,))
    return answers(context, question, replies, blank, starts=(start,))


def _each(context: RunContext, question: Question) -> Steps:
    """One prompt a part. Text between the parts stays."""
    text = field_of(context, question)
    parts = _parts(context, question, text)
    if len(parts) > 1:
        context.say(f"answering {len(parts)} parts")
    asks: list[Ask] = []
    end = 0
    for start, stop in parts:
        between = text[end:start]
        if asks and context.wording.task.long.unit == "passage":
            between = "\n"
        asks.append(replace(ask_of(context, question, text[start:stop]), before=between))
        end = stop
    replies = yield tuple(asks)
    return answers(context, question, replies, starts=[start for start, _ in parts])


def _reduce(context: RunContext, question: Question) -> Steps:
    """One prompt a part, then one for their answers, until one prompt holds all."""
    whole, fits = field_of(context, question), fitting(context, question)
    text = whole
    taken: list[Completion | ChoiceLogprobs] = []
    single = replace(context, sampling=replace(context.sampling, num_return_sequences=1))
    while not fits(text):
        parts = passages(text, fits)
        count = counted(context.count(text), "token")
        context.say(f"{count} do not fit: answering {len(parts)} parts")
        asks = [ask_of(single, question, text[start:stop]) for start, stop in parts]
        replies = yield tuple(replace(ask, final=False) for ask in asks)
        taken += results_of(replies)
        shorter = "\n".join(reply.texts[0] for reply in replies)
        if len(shorter) > len(text) * MAX_REDUCE_RATIO:
            raise BadInput(
                "input too long", "its parts' answers are hardly shorter", "Ask for less of each"
            )
        text = shorter
    if taken and not text.strip():  # a model would invent an answer to nothing
        return answers(context, question, (), taken=taken)
    if taken:
        count = counted(context.count(text), "token")
        context.say(f"answering for the {count} of the parts' answers")
    replies = yield (ask_of(context, question, text, of=whole),)
    return answers(context, question, replies, taken=taken)


STRATEGIES: dict[str, Callable[[RunContext, Question], Steps]] = {
    "whole": _whole,
    "truncate": _truncated,
    "window": _window,
    "each": _each,
    "reduce": _reduce,
}


def _parts(context: RunContext, question: Question, text: str) -> list[tuple[int, int]]:
    """The parts that `each` answers, as (start, end) in the text."""
    fits = fitting(context, question)
    if context.wording.task.long.unit == "passage":
        return list(passages(text, fits))
    found = []
    for start, end in sentences(text, lines=True):
        own = passages(text[start:end], fits)
        found += [(start + first, start + last) for first, last in own]
    return found
