"""`/v1/tasks/{name}`: a task on one text or many, with the answers of its command.

A list of texts is what `--lines` is for the command: what is wrong with one text is in its answer.
Which tasks there are is a matter of the server: its own files, those of the user who runs it, and
those of installed packages. A request names a task; it never brings one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from gptcli.errors import GptcliError, UsageError
from gptcli.inputs.prompt import empty
from gptcli.multiplex import Exchange, joined
from gptcli.options import Overflow, Sampling
from gptcli.options.keywords import merged
from gptcli.server.body import field, refuse_unserved, shown
from gptcli.server.engine_thread import ClientJob, Send
from gptcli.server.own.settings import (
    asks_stream,
    given_settings,
    input_texts,
    numbered,
    refused,
)
from gptcli.server.refusals import Refusal, bad_field, refusal_of
from gptcli.server.service import Service
from gptcli.tasks.answers import Answer, AnswerChunk, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import chosen
from gptcli.tasks.definition.task import BLANK_ALLOWED, Task
from gptcli.tasks.prompts import Wording, worded
from gptcli.tasks.run_context import (
    RunContext,
    calibration_prompts,
    check_sampling,
    prepared,
    withheld,
)
from gptcli.tasks.solver import calibrated, plans

READ_HERE = ("examples", "on_overflow", "allow_empty", "num_beams")
UNSERVED = {
    "file": "the texts come in input",
    "lines": "give a list as input",
    "output": "the answer comes back",
}
CHARACTERS_A_TOKEN = 4  # about, to bound what waits before anything is encoded
MAX_CALIBRATIONS = 256  # wordings whose calibration is kept


@dataclass(frozen=True, kw_only=True)
class TaskCall:
    """A request, checked."""

    wording: Wording
    sampling: Sampling
    texts: tuple[str, ...]
    single: bool  # one text alone
    on_overflow: Overflow = "error"
    allow_empty: bool = False
    stream: bool = False

    @property
    def as_written(self) -> bool:
        """Whether parts of an answer are sent before it is whole."""
        return self.stream and not withheld(self.wording.task, self.wording.chosen)

    @property
    def tokens(self) -> int:
        """About how many tokens the prompts have."""
        around = len(self.wording.text("")) // CHARACTERS_A_TOKEN
        return sum(len(text) // CHARACTERS_A_TOKEN + around + 1 for text in self.texts)

    def questions(self) -> Iterator[Question]:
        """The texts; a blank one is an error where the command has one."""
        blank = self.allow_empty or self.wording.task.answer.kind in BLANK_ALLOWED
        for id, text in numbered(self.texts, self.single):
            yield Question(id, text, None if blank or text.strip() else empty("empty input"))


def find_task(name: str) -> Task:
    """A task of the server's. Raises Refusal where there is none, BadTask."""
    try:
        return catalog.find(name)
    except UsageError:
        why = f"there is no task {name[:100]!r}; GET /v1/tasks lists them"
        raise Refusal(404, why, code="task_not_found") from None


def read_task(body: Mapping[str, Any], name: str, service: Service) -> TaskCall:
    """Check a request. Raises Refusal, naming the field."""
    task = find_task(name)
    service.check_model(field(body, "model", str))
    refuse_unserved(body, UNSERVED)
    if field(body, "num_beams", int, default=1) != 1:
        raise bad_field("num_beams", "the server writes without a beam search")
    options = [option.name for option in task.options]
    own, rest = given_settings(body, Sampling, options, READ_HERE)
    texts, single = input_texts(body, service)
    try:
        start = Sampling(**task.sampling)  # type: ignore[arg-type]
        sampling = merged(Sampling, start, rest)
        wording = worded(task, chosen(task, own), _examples(body, task))
        check_sampling(task, wording.chosen, sampling)
    except UsageError as error:
        raise refused(error, body) from None
    most = service.limits.sequences
    if len(texts) * sampling.num_return_sequences > most:
        raise bad_field("num_return_sequences", f"more than {most} answers are asked for")
    return TaskCall(
        wording=wording,
        sampling=sampling,
        texts=texts,
        single=single,
        on_overflow=_on_overflow(body),
        allow_empty=field(body, "allow_empty", bool, default=False),
        stream=asks_stream(body),
    )


def _on_overflow(body: Mapping[str, Any]) -> Overflow:
    found: Overflow = field(body, "on_overflow", str, default="error")
    if found not in get_args(Overflow):
        raise bad_field(
            "on_overflow", f"{found[:60]!r} is not one of {', '.join(get_args(Overflow))}"
        )
    return found


def _examples(body: Mapping[str, Any], task: Task) -> tuple[str, ...]:
    """Texts "INPUT = OUTPUT", or pairs. Raises Refusal."""
    given = body.get("examples")
    if given is None:
        return ()
    if not task.takes_examples:
        raise bad_field("examples", f"{task.name} takes none")
    if not isinstance(given, list):
        raise bad_field("examples", f"a list is needed, not {shown(given)}")
    return tuple(map(_example, given))


def _example(given: object) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, list) and len(given) == 2 and all(isinstance(one, str) for one in given):
        return " = ".join(given)
    raise bad_field(
        "examples", f'"INPUT = OUTPUT", or a pair of texts, is needed, not {shown(given)}'
    )


def job_for(call: TaskCall, service: Service) -> ClientJob:
    """The work for the engine; it sends AnswerChunk and Answer."""
    return ClientJob(lambda send, ids: _exchange(call, service, send, ids), call.tokens)


def _exchange(call: TaskCall, service: Service, send: Send, ids: Iterator[str]) -> Exchange[None]:
    engine = service.engine.engine
    context = prepared(engine, call.wording, call.sampling, call.on_overflow)
    context = yield from _calibrated(replace(context, shown=call.as_written), service, ids)
    asked = plans(engine, context, call.questions(), ids)
    yield from joined((plan for plan in asked if plan is not None), send)


def _calibrated(context: RunContext, service: Service, ids: Iterator[str]) -> Exchange[RunContext]:
    """As `calibrated`, kept for the next request with the same labels and wording."""
    if context.kind != "labels":
        return context
    known, key = service.priors, (context.labels, *calibration_prompts(context.wording))
    if key in known:
        return replace(context, prior=known[key])
    [context] = yield from calibrated(context, ids)
    while len(known) >= MAX_CALIBRATIONS:
        del known[next(iter(known))]
    known[key] = context.prior
    return context


class TaskAnswer:
    """Follows the events of a job, and says what the client gets."""

    def __init__(self, call: TaskCall) -> None:
        self._call = call

    async def whole(self, job: ClientJob) -> object:
        """The answer of one text, or a list. Raises what is wrong with one text alone."""
        found = [
            self._told(item)
            async for items in job.items()
            for item in items
            if isinstance(item, Answer)
        ]
        alone = self._call.single and self._call.sampling.num_return_sequences == 1
        return found[0] if alone else found

    async def pieces(self, job: ClientJob) -> AsyncIterator[list[dict[str, Any]]]:
        """The objects of a stream: `delta` is text of the answer that comes next, as a whole."""
        async for items in job.items():
            if found := list(self._streamed(items)):
                yield found

    def _streamed(self, items: Sequence[AnswerChunk | Answer]) -> Iterator[dict[str, Any]]:
        for item in items:
            if isinstance(item, Answer):
                yield self._told(item)
            elif self._call.as_written:
                yield {"delta": item.text}

    def _told(self, answer: Answer) -> dict[str, object]:
        if answer.error is None:
            return answer.to_dict()
        if self._call.single:
            raise refusal_of(answer.error, "input")
        return replace(answer, error=answer.error.in_python()).to_dict()


def listed_tasks() -> Iterator[Task]:
    """All tasks that can be used."""
    for listed in catalog.listing():
        if not listed.error:
            try:
                yield catalog.find(listed.name)
            except GptcliError:  # changed in between
                continue


def described(task: Task) -> dict[str, object]:
    """A task as the list has it."""
    options = [
        {
            "name": option.name,
            "type": option.kind,
            "help": option.help,
            "default": list(option.default)
            if isinstance(option.default, tuple)
            else option.default,
            "choices": list(option.choices) or None,
            "low": option.low,
            "high": option.high,
        }
        for option in task.options
    ]
    return {
        "object": "task",
        "id": task.name,
        "description": task.description,
        "answer": task.answer.kind,
        "examples": task.takes_examples,
        "sampling": dict(task.sampling),
        "options": options,
    }
