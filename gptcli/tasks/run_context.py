"""What the inputs of a run share, what is asked for one of them, and whether it fits the context.

Not here: which requests an input takes is in `gptcli.tasks.plans`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from gptcli.errors import BadInput, UsageError
from gptcli.options import DEFAULT_NEW_TOKENS, Overflow, Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    ModelInfo,
)
from gptcli.tasks.answers import Question
from gptcli.tasks.definition.task import Read, Task, Value
from gptcli.tasks.prompts import Wording, resolved
from gptcli.tasks.text.parsers import reader

DENSEST = 20  # characters a token, in ordinary text far less

Fits = Callable[[str], bool]
"""(piece of text) -> whether the prompt with it fits the context."""


@dataclass(frozen=True)
class RunContext:
    """What all inputs of a run share."""

    wording: Wording
    sampling: Sampling
    info: ModelInfo
    count: Callable[[str], int]  # tokens of a text
    on_overflow: Overflow = "error"
    prior: tuple[tuple[float, ...], ...] = ()  # log-probabilities of the labels without an input
    notices: tuple[str, ...] = ()  # of every answer
    say: Callable[[str], None] = lambda text: None  # told of every step

    @property
    def kind(self) -> str:
        """How the answer is read."""
        return self.wording.task.answer.kind

    @property
    def limit(self) -> int:
        """How many tokens a prompt and what is written may have together."""
        return most_tokens(self.wording, self.sampling, self.info)

    @property
    def labels(self) -> tuple[str, ...]:
        """What is chosen from, where labels are."""
        return cast(tuple[str, ...], self.wording.parameter("labels"))


@dataclass(frozen=True)
class _Ask:
    prompt: str
    part: str  # what of the input it is about
    before: str = field(default="", kw_only=True)  # stands between the answer before and this one
    final: bool = field(default=True, kw_only=True)  # part of the answer, not of a way there


@dataclass(frozen=True)
class AskText(_Ask):
    """A request of a plan whose answer is read from what the model writes."""

    sampling: Sampling
    read: Read

    def request(self, id: str) -> GenerateRequest:
        """What the engine is asked."""
        return GenerateRequest(id=id, prompt=self.prompt, sampling=self.sampling)


@dataclass(frozen=True)
class AskLabel(_Ask):
    """A request of a plan whose answer is the likeliest of `choices`."""

    choices: tuple[str, ...]

    def request(self, id: str) -> LoglikelihoodRequest:
        """What the engine is asked."""
        return LoglikelihoodRequest(id=id, prompt=self.prompt, choices=self.choices)


Ask = AskText | AskLabel


@dataclass(frozen=True)
class Reply:
    """What came of an Ask: for each sequence the answer, whether its reading came to an end by
    itself, and what it was read from."""

    part: str
    before: str
    texts: tuple[str, ...]
    done: tuple[bool, ...]
    results: tuple[Completion | ChoiceLogprobs, ...]


def check_sampling(task: Task, chosen: Mapping[str, Value], sampling: Sampling) -> None:
    """Raise UsageError for what the task would ignore, or could not do with this sampling."""
    if task.answer.kind == "labels":
        for flag, given in (
            ("--num-return-sequences", sampling.num_return_sequences > 1),
            ("--num-beams", sampling.num_beams > 1),
            ("--logprobs", sampling.logprobs is not None),
        ):
            if given:
                raise UsageError(flag, "labels are scored, nothing is written", "Leave it out.")
    least = resolved(task.answer.parameters.get("abstain_below"), chosen)
    if least is not None and sampling.num_beams > 1:
        why = "a beam search gives no log-probabilities to tell a sure answer by"
        raise UsageError("--num-beams", why, "Leave it out, or answer always.")


def most_tokens(wording: Wording, sampling: Sampling, info: ModelInfo) -> int:
    """How many tokens a prompt and what is written may have together."""
    if wording.task.answer.kind == "labels" or sampling.max_length is None:
        return info.context
    return min(info.context, sampling.max_length)


def field_of(setting: RunContext, question: Question) -> str:
    """The text that may be long: the input, or an option's."""
    name = setting.wording.task.long.field
    return question.text if name == "input" else str(setting.wording.chosen[name] or "")


def prompt_of(setting: RunContext, question: Question, part: str) -> str:
    """The prompt with `part` in place of the text that may be long."""
    name = setting.wording.task.long.field
    if name == "input":
        return setting.wording.text(part)
    return setting.wording.text(question.text, name, part)


def ask_of(setting: RunContext, question: Question, part: str, of: str | None = None) -> Ask:
    """The request for `part`; `of` is the text that its answer is for, where that is another."""
    prompt = prompt_of(setting, question, part)
    if setting.kind == "labels":
        return AskLabel(prompt, part, continuing(prompt, setting.labels))
    sampling, task = setting.sampling, setting.wording.task
    stop = tuple(dict.fromkeys((*task.stop, *sampling.stop)))
    wanted = sampling.logprobs
    if "abstain_below" in task.answer.parameters and sampling.num_beams == 1:
        wanted = wanted or 0
    parameters = {name: setting.wording.parameter(name) for name in task.answer.parameters}
    read = reader(task.answer, parameters, part if of is None else of)
    return AskText(prompt, part, replace(sampling, stop=stop, logprobs=wanted), read)


def continuing(prompt: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Labels as they go on after a prompt: with a space, unless it ends in one."""
    space = "" if not prompt or prompt[-1].isspace() else " "
    return tuple(space + label for label in labels)


def fitting(setting: RunContext, question: Question) -> Fits:
    """Raises BadInput where a prompt has no room for any text."""
    limit = setting.limit
    wanted = setting.sampling.max_new_tokens or DEFAULT_NEW_TOKENS
    if setting.kind == "labels":
        wanted = max(setting.count(label) for label in setting.labels) + 1
    most = limit - min(wanted, limit // 2)

    def fits(text: str) -> bool:
        # Whole prompts are counted: a template may hold the text twice, or none of its spaces. What
        # is so long that it could fit only as white space is not worth the time.
        if len(text) > DENSEST * most:
            return False
        return setting.count(prompt_of(setting, question, text)) <= most

    if not fits(""):
        raise BadInput(
            f"task {setting.wording.task.name}",
            f"the prompt without its input nearly fills the {limit} tokens that are allowed",
            "Give fewer examples, a smaller --max-new-tokens, or a larger --max-length",
        )
    return fits


def cut_to_fit(text: str, side: Overflow, fits: Fits) -> str:
    """The longest beginning (or end) that fits."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        kept = text[:middle] if side == "truncate-right" else text[len(text) - middle :]
        low, high = (middle, high) if fits(kept) else (low, middle - 1)
    return text[:low] if side == "truncate-right" else text[len(text) - low :]
