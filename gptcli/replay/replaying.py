"""Run a record again and compare the answers.

Requests run in their order with the same seeds, in an engine with as many slots. On the same
machine with the same versions the texts are identical. With another machine or data type they
may differ where two tokens are almost equally likely. The caller asks `differences` and decides
which differences of model and machine are allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from gptcli.checkpoints.integrity.content import changes
from gptcli.errors import BadInput
from gptcli.inputs.token_ids import ids_of
from gptcli.multiplex import Unanswered
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Engine,
    Request,
    Result,
    TextOrIds,
)
from gptcli.replay.record import Answered, RecordedRequest, RecordedRun, digest

LOGPROB_TOLERANCE = 1e-4
SHOWN_CHARACTERS = 24  # of each text, from the first difference on
RecordedText = tuple[str, str, float | None]
"""A text, why it ended, and how likely it is where that was asked."""


@dataclass(frozen=True, kw_only=True)
class ReplayVerdict:
    """Whether an answer came out the same; `at` is the first character that did not.

    `was` and `now` are the texts from there on, where the record has them.
    """

    id: str
    index: int
    identical: bool
    tokens: int
    at: int | None = None
    was: str | None = None
    now: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The shape of `gptcli replay --json`."""
        return {
            "id": self.id,
            "index": self.index,
            "identical": self.identical,
            "tokens": self.tokens,
            "at": self.at,
            "was": self.was,
            "now": self.now,
        }


def differences(then: RecordedRun, now: RecordedRun) -> tuple[list[str], list[str]]:
    """What makes it another model, and what else may change a text; in words."""
    other = []
    if then.files and now.files:
        if changed := changes(then.files, now.files):
            was = f"{then.model} and is {now.model}" if then.model != now.model else "changed"
            other.append(f"the model was {was}: {changed}")
    elif then.revision != now.revision or (now.revision is None and then.model != now.model):
        was, is_ = (
            f"{run.model} at {run.revision or 'an unknown revision'}" for run in (then, now)
        )
        other.append(f"the model was {was} and is {is_}")
    was, is_ = (json.loads(json.dumps(dict(run.filter))) for run in (then, now))
    if was != is_:
        names = sorted(name for name in was.keys() | is_.keys() if was.get(name) != is_.get(name))
        other.append(f"the filter was another one: {', '.join(names)}")
    pairs = [("dtype", then.dtype, now.dtype), ("device", then.device, now.device)]
    for name in sorted(then.versions.keys() | now.versions.keys()):
        pairs.append((name, then.versions.get(name, "none"), now.versions.get(name, "none")))
    return other, [f"{name} was {was} and is {is_}" for name, was, is_ in pairs if was != is_]


def replay(
    engine: Engine, entries: Iterable[RecordedRequest], prompt: str | None
) -> Iterator[ReplayVerdict]:
    """Ask again; a verdict for each answer, when its request is done.

    `prompt` is for records that keep hashes. Raises BadInput where it is missing or another.
    """
    entries_by_id: dict[str, RecordedRequest] = {}
    waiting = Unanswered()

    def requests() -> Iterator[Request]:
        for number, entry in enumerate(entries):
            request = entry.request(_prompt(entry, prompt), str(number))
            entries_by_id[request.id] = entry
            waiting.add(request)
            yield request

    for event in engine.run(requests()):
        if not isinstance(event, Chunk) and (results := waiting.take(event)):
            entry = entries_by_id.pop(event.id)
            yield from _compared(entry, [text for result in results for text in _texts(result)])


def _prompt(entry: RecordedRequest, given: str | None) -> TextOrIds:
    if entry.prompt is not None:
        return entry.prompt
    if entry.choices is None and entry.answers and entry.answers[0].logprob is not None:
        hint = "Record the run again without --record-prompt hash."
        raise BadInput("record", "it keeps only hashes of the texts that were scored", hint)
    if given is None:
        hint = "Give the prompt as an argument, with -f, or through a pipe."
        raise BadInput("record", "it keeps only a hash of the prompt", hint)
    if digest(given) == entry.sha256:
        return given
    with suppress(BadInput):  # it may have been token ids
        if digest(ids := ids_of(given)) == entry.sha256:
            return ids
    raise BadInput("prompt", "it is not the one that was recorded", "Give the same prompt.")


def _texts(result: Result) -> list[RecordedText]:
    match result:
        case Completion():
            return [(result.text, result.finish_reason, None)]
        case ChoiceLogprobs(error=None):
            return [(choice.text, "scored", choice.total) for choice in result.choices]
        case _:
            return [("", "error", None)]


def _compared(entry: RecordedRequest, now: list[RecordedText]) -> Iterator[ReplayVerdict]:
    for index, (then, (text, ending, logprob)) in enumerate(zip(entry.answers, now, strict=False)):
        same = _same(then, text, ending, logprob)
        at = None
        if not same and then.text is not None:
            pairs = zip(then.text, text, strict=False)
            shorter = min(len(then.text), len(text))
            at = next((place for place, (a, b) in enumerate(pairs) if a != b), shorter)
        yield ReplayVerdict(
            id=entry.id,
            index=index,
            identical=same,
            tokens=then.tokens,
            at=at,
            was=None if at is None or then.text is None else then.text[at : at + SHOWN_CHARACTERS],
            now=None if at is None else text[at : at + SHOWN_CHARACTERS],
        )


def _same(then: Answered, text: str, ending: str, logprob: float | None) -> bool:
    if then.finish_reason == "cancelled" and then.text is not None:
        return text.startswith(then.text)  # as far as it went
    if (
        then.logprob is not None
        and logprob is not None
        and abs(then.logprob - logprob) > LOGPROB_TOLERANCE
    ):
        return False
    return then.sha256 == digest(text) and then.finish_reason == ending
