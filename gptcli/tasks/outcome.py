"""From generated text, or scored labels, to the answers of one input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from gptcli.errors import GptcliError
from gptcli.moderation.told import joined, moved
from gptcli.protocol import ChoiceLogprobs, Completion, FinishReason, TokenLogprob
from gptcli.tasks.answers import Answer, Question, total
from gptcli.tasks.calibration import contextual, pmi, probabilities
from gptcli.tasks.definition.task import Value
from gptcli.tasks.run_context import Reply, RunContext
from gptcli.tasks.text.joining import between
from gptcli.tasks.text.spans import entities, shifted

UNSURE = "nothing was answered: the model is not sure enough of an answer"


def failed(context: RunContext, question: Question, error: GptcliError | None) -> Answer:
    """An empty answer, with the error if there is one."""
    return Answer(
        task=context.wording.task.name,
        id=question.id,
        index=0,
        input=question.text,
        text="",
        finish_reason="error" if error else "stop",
        usage=total(()),
        seed=context.sampling.seed,
        model=context.info.name,
        revision=context.info.revision,
        error=error,
    )


def results_of(replies: Sequence[Reply]) -> list[Completion | ChoiceLogprobs]:
    """The results of all replies. Raises the error of one that failed."""
    results = [result for reply in replies for result in reply.results]
    for result in results:
        if result.error:
            raise result.error
    return results


def answers(
    context: RunContext,
    question: Question,
    replies: Sequence[Reply],
    blank: Answer | None = None,
    taken: Sequence[Completion | ChoiceLogprobs] = (),
    starts: Sequence[int] = (0,),
) -> tuple[Answer, ...]:
    """The answers of the final replies, one a sequence, filled into `blank`.

    `taken`: results of earlier requests. `starts`: where in the input each reply's part begins, in
    characters. Raises the error of a reply that failed.
    """
    blank = blank or failed(context, question, None)
    results = results_of(replies)
    # Labels are scored without sampling, so their results have no notices of it.
    said = context.sampling.notices if context.kind == "labels" else ()
    notices = dict.fromkeys([*said, *(text for result in results for text in result.notices)])
    blank = replace(
        blank,
        usage=total((*taken, *results)),
        notices=(*context.notices, *blank.notices, *notices),
        unknown=tuple(part for reply in replies for part in reply.results[0].unknown),
    )
    if context.kind == "labels":
        score = cast(ChoiceLogprobs, results[0])
        blank = replace(blank, notices=(*blank.notices, *_alike(score)))
        return (_labelled(context, blank, score),)
    count = context.sampling.num_return_sequences
    return tuple(
        _written(context, replace(blank, index=index), replies, starts) for index in range(count)
    )


def _labelled(context: RunContext, blank: Answer, score: ChoiceLogprobs) -> Answer:
    """The likeliest label, with the probabilities of all."""
    logprobs = [choice.total for choice in score.choices]
    way = context.wording.parameter("calibration")
    if way == "contextual":
        shares = contextual(logprobs, context.prior)
    elif way == "pmi":
        shares = pmi(logprobs, context.prior[0])
    else:
        shares = probabilities(logprobs)
    best = max(range(len(shares)), key=shares.__getitem__)
    found = replace(
        blank,
        text=context.labels[best],
        labels=tuple(zip(context.labels, shares, strict=True)),
        seed=None,
    )
    return _abstaining(context, found, shares[best])


def _alike(score: ChoiceLogprobs) -> Iterator[str]:
    """What to say of labels that the model cannot tell apart."""
    known: dict[tuple[int, ...], str] = {}
    for choice in score.choices:
        label = choice.text.strip()
        other = known.setdefault(choice.tokens, label)
        if choice.tokens and other != label:
            yield f"{other} and {label} are the same to the model: its vocabulary lacks their words"


def _written(
    context: RunContext, blank: Answer, replies: Sequence[Reply], starts: Sequence[int]
) -> Answer:
    """The answers of the parts joined: a text, or entities with positions in the input."""
    index = blank.index
    completions = [cast(Completion, reply.results[index]) for reply in replies]
    text = _joined(replies, index)
    silent = "" if text.strip() or context.kind == "spans" else _silence(completions)
    found = replace(
        blank,
        text=text,
        finish_reason=_reason(replies, completions, index),
        filter=joined(_filtered(replies, completions, index)),
        blank_because=silent,
    )
    if context.kind == "spans":
        types = cast(tuple[str, ...], context.wording.parameter("types"))
        named = [
            entity
            for reply, start in zip(replies, starts, strict=True)
            for entity in shifted(entities(reply.texts[index], reply.part, types), start)
        ]
        shown = json.dumps([entity.to_dict() for entity in named], ensure_ascii=False)
        return replace(found, text=shown, entities=tuple(named))
    pairs = zip(replies, completions, strict=True)
    tokens = [token for reply, done in pairs for token in _covering(done, reply.texts[index])]
    if context.sampling.logprobs is not None:
        found = replace(found, logprobs=tuple(tokens))
    if "abstain_below" not in context.wording.task.answer.parameters:
        return found
    mean = sum(token.logprob for token in tokens) / len(tokens) if tokens else None
    return _abstaining(context, replace(found, mean_logprob=mean), mean)


def _joined(replies: Sequence[Reply], index: int) -> str:
    """The texts of the parts, and what stands between them."""
    pieces = [""]
    for reply in replies:
        piece = between(reply.before, pieces[-1], reply.texts[index]) + reply.texts[index]
        pieces += [piece] if piece else []
    return "".join(pieces)


def _reason(
    replies: Sequence[Reply], completions: Sequence[Completion], index: int
) -> FinishReason:
    """The finish reason: content_filter, length or loop if any part ended so."""
    if any(done.finish_reason == "content_filter" for done in completions):
        return "content_filter"
    for reply, done in zip(replies, completions, strict=True):
        if not reply.done[index] and done.finish_reason not in ("stop", "cancelled"):
            return done.finish_reason
    return "stop"


def _filtered(
    replies: Sequence[Reply], completions: Sequence[Completion], index: int
) -> Iterator[Mapping[str, object] | None]:
    """What the filter did to each part, with places in the answer's text."""
    place, before = 0, ""
    for reply, done in zip(replies, completions, strict=True):
        text = reply.texts[index]
        place += len(between(reply.before, before, text))
        at = done.text.find(text) if text else -1
        end = place + len(text)
        if at < 0:
            yield moved(done.filter, None)
        else:
            yield moved(done.filter, place - at, range(place, end))
        place, before = end, text or before


def _silence(completions: Sequence[Completion]) -> str:
    """Why an answer without an error is empty."""
    if not completions:
        return "nothing was answered: the answers for the parts of the input are empty"
    if any(done.text.strip() for done in completions):
        return "nothing was answered: no part of the generated text is an answer"
    if any(done.text for done in completions):
        return "nothing was answered: the model generated only white space"
    return "nothing was answered: the model ended the text at once"


def _covering(done: Completion, answer: str) -> list[TokenLogprob]:
    """The tokens of the answer, which is a part of the generated text."""
    end = done.text.find(answer) + len(answer) if answer else 0
    found, place, torn = [], 0, False
    for token in done.logprobs or ():
        if place >= end:
            break
        if "\ufffd" in token.token:  # a part of a character, whose length is known only later
            torn = True
        else:
            at = done.text.find(token.token, place) if torn else place
            if not 0 <= at < end:
                break
            place, torn = at + len(token.token), False
        found.append(token)
    return found


def _abstaining(context: RunContext, found: Answer, confidence: float | None) -> Answer:
    """The answer, or the text for abstaining if the confidence is too low."""
    parameters = context.wording.task.answer.parameters
    if "abstain_below" not in parameters:
        return found
    least: Value = context.wording.parameter("abstain_below")
    if not isinstance(least, int | float):
        return replace(found, abstained=False)
    unsure = confidence is None or confidence < least
    if not unsure:
        return replace(found, abstained=False)
    instead = str(context.wording.parameter("abstain") or "")
    return replace(found, abstained=True, text=instead, blank_because="" if instead else UNSURE)
