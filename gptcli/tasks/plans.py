"""How one input is answered: which requests are made of it, and what is made of the replies.

A plan is a generator: it yields requests, all that can run at once, is sent their replies, and
returns the answers. So a summary of summaries reads like a loop, and the engine still runs the
requests of many inputs side by side. Not here: running them is in `gptcli.tasks.solver`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import replace

from gptcli.errors import BadInput, GptcliError
from gptcli.options import Overflow
from gptcli.protocol import ChoiceLogprobs, Completion
from gptcli.system.units import counted
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.outcome import answers, failed, results_of
from gptcli.tasks.prompts import resolved
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
from gptcli.tasks.text.sentences import sentences

CUT = {"truncate-left": "beginning", "truncate-right": "end", "error": ""}
SHRINKS = 0.9  # each round of answers to answers must be so much shorter, or there is no end

Steps = Generator[tuple[Ask, ...], tuple[Reply, ...], tuple[Answer, ...]]


def plan(setting: RunContext, question: Question) -> Steps:
    """The way to the answers of one input."""
    if question.error:
        return (failed(setting, question, question.error),)
    if question.sampling:
        setting = replace(setting, sampling=question.sampling)
    if setting.sampling.seed is None:  # one for all its requests, so that it can be told
        drawn = replace(setting.sampling, seed=secrets.randbits(32))
        setting = replace(setting, sampling=drawn)
    try:
        check_sampling(setting.wording.task, setting.wording.chosen, setting.sampling)
        long = setting.wording.task.long
        strategy = str(resolved(long.strategy, setting.wording.chosen))
        steps = STRATEGIES["whole" if setting.kind == "labels" else strategy]
        return (yield from steps(setting, question))
    except GptcliError as error:
        return (failed(setting, question, error),)


def _whole(setting: RunContext, question: Question, side: Overflow | None = None) -> Steps:
    """One prompt; what does not fit is cut at `side`, or as --on-overflow says."""
    text, side = field_of(setting, question), side or setting.on_overflow
    kept = text if side == "error" else cut_to_fit(text, side, fitting(setting, question))
    cut = setting.count(text) - setting.count(kept) if kept != text else 0
    replies = yield (ask_of(setting, question, kept),)
    blank = failed(setting, question, None)
    start = len(text) - len(kept) if side == "truncate-left" else 0
    if cut:
        notice = f"input cut by {counted(cut, 'token')} at its {CUT[side]} to fit the context"
        blank = replace(blank, truncated=cut, notices=(notice,))
    return answers(setting, question, replies, blank, starts=(start,))


def _truncated(setting: RunContext, question: Question) -> Steps:
    side = setting.on_overflow if setting.on_overflow != "error" else "truncate-right"
    return (yield from _whole(setting, question, side))


def _window(setting: RunContext, question: Question) -> Steps:
    """The passage that has most in common with the question."""
    text, fits = field_of(setting, question), fitting(setting, question)
    if fits(text):
        return (yield from _whole(setting, question))
    start, end = best_window(text, question.text, fits)
    setting.say(f"reading characters {start} to {end} of {len(text)}")
    replies = yield (ask_of(setting, question, text[start:end]),)
    notice = f"the text does not fit the context: characters {start} to {end} were read"
    blank = replace(failed(setting, question, None), notices=(notice,))
    return answers(setting, question, replies, blank, starts=(start,))


def _each(setting: RunContext, question: Question) -> Steps:
    """Part by part; what stands between the parts stays."""
    text = field_of(setting, question)
    parts = _parts(setting, question, text)
    if len(parts) > 1:
        setting.say(f"answering {len(parts)} parts")
    asks: list[Ask] = []
    end = 0
    for start, stop in parts:
        between = text[end:start]
        if asks and setting.wording.task.long.unit == "passage":
            between = "\n"
        asks.append(replace(ask_of(setting, question, text[start:stop]), before=between))
        end = stop
    replies = yield tuple(asks)
    return answers(setting, question, replies, starts=[start for start, _ in parts])


def _reduce(setting: RunContext, question: Question) -> Steps:
    """Part by part, then the answers together, until one prompt holds all."""
    whole, fits = field_of(setting, question), fitting(setting, question)
    text = whole
    taken: list[Completion | ChoiceLogprobs] = []
    single = replace(setting, sampling=replace(setting.sampling, num_return_sequences=1))
    while not fits(text):
        parts = passages(text, fits)
        count = counted(setting.count(text), "token")
        setting.say(f"{count} do not fit: answering {len(parts)} parts")
        asks = [ask_of(single, question, text[start:stop]) for start, stop in parts]
        replies = yield tuple(replace(ask, final=False) for ask in asks)
        taken += results_of(replies)
        shorter = "\n".join(reply.texts[0] for reply in replies)
        if len(shorter) > len(text) * SHRINKS:
            raise BadInput(
                "input too long", "its parts' answers are hardly shorter", "Ask for less of each"
            )
        text = shorter
    if taken and not text.strip():  # asked for nothing, a model would make something up
        return answers(setting, question, (), taken=taken)
    if taken:
        count = counted(setting.count(text), "token")
        setting.say(f"answering for the {count} of the parts' answers")
    replies = yield (ask_of(setting, question, text, of=whole),)
    return answers(setting, question, replies, taken=taken)


STRATEGIES: dict[str, Callable[[RunContext, Question], Steps]] = {
    "whole": _whole,
    "truncate": _truncated,
    "window": _window,
    "each": _each,
    "reduce": _reduce,
}


def _parts(setting: RunContext, question: Question, text: str) -> list[tuple[int, int]]:
    """The parts that `each` answers, as places in the text."""
    fits = fitting(setting, question)
    if setting.wording.task.long.unit == "passage":
        return list(passages(text, fits))
    found = []
    for start, end in sentences(text, lines=True):
        own = passages(text[start:end], fits)
        found += [(start + first, start + last) for first, last in own]
    return found
