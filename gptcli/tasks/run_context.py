"""What the inputs of a run share, the requests for one of them, and whether they fit the context.

Not here: which requests an input takes is in `gptcli.tasks.plans`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, UsageError
from gptcli.options import DEFAULT_NEW_TOKENS, Overflow, Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    ModelInfo,
)
from gptcli.system.text.scripts import is_unspaced
from gptcli.tasks.answers import Question
from gptcli.tasks.definition.task import Read, Task, Value
from gptcli.tasks.prompts import Wording, resolved
from gptcli.tasks.text.parsers import reader

MAX_CHARS_PER_TOKEN = 20  # of a text whose tokens are worth counting; ordinary text has about 4

Fits = Callable[[str], bool]
"""(part of the text) -> whether its prompt fits the context."""


@dataclass(frozen=True)
class RunContext:
    """What all inputs of a run share."""

    wording: Wording
    sampling: Sampling
    info: ModelInfo
    count: Callable[[str], int]  # tokens of a text
    on_overflow: Overflow = "error"
    prior: tuple[tuple[float, ...], ...] = ()  # log-probabilities of the labels without an input
    notices: tuple[str, ...] = ()  # for every answer
    say: Callable[[str], None] = lambda text: None  # receives a message for every step
    shown: bool = True  # whether anybody reads the answers as they are written

    @property
    def kind(self) -> str:
        """The kind of answer, as in `AnswerRule.kind`."""
        return self.wording.task.answer.kind

    @property
    def limit(self) -> int:
        """Limit of prompt and continuation together, in tokens."""
        return most_tokens(self.wording, self.sampling, self.info)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classification."""
        return cast(tuple[str, ...], self.wording.parameter("labels"))

    def choices(self, prompt: str) -> tuple[str, ...]:
        """The labels as continuations of a prompt: as the examples have them, else as written."""
        before = self.wording.before_answer
        if not prompt or prompt[-1].isspace():
            before = ""
        elif before is None:
            before = "" if is_unspaced(prompt[-1]) else " "
        return tuple(before + label for label in self.labels)


@dataclass(frozen=True)
class _Ask:
    prompt: str
    part: str  # the part of the input in the prompt
    before: str = field(default="", kw_only=True)  # text between the previous answer and this one
    final: bool = field(default=True, kw_only=True)  # False for an intermediate request


@dataclass(frozen=True)
class AskText(_Ask):
    """A request of a plan whose answer is read from generated text."""

    sampling: Sampling
    read: Read

    def request(self, id: str, shown: bool = True) -> GenerateRequest:
        """The request for the engine."""
        return GenerateRequest(id=id, prompt=self.prompt, sampling=self.sampling, shown=shown)


@dataclass(frozen=True)
class AskLabel(_Ask):
    """A request of a plan whose answer is the likeliest of `choices`."""

    choices: tuple[str, ...]

    def request(self, id: str, shown: bool = True) -> LoglikelihoodRequest:
        """The request for the engine; nothing of it is shown before the end."""
        return LoglikelihoodRequest(id=id, prompt=self.prompt, choices=self.choices)


Ask = AskText | AskLabel


@dataclass(frozen=True)
class Reply:
    """The result of an Ask: for each sequence the answer, whether its reading ended by itself, and
    the result it was read from."""

    part: str
    before: str
    texts: tuple[str, ...]
    done: tuple[bool, ...]
    results: tuple[Completion | ChoiceLogprobs, ...]


class TokenCounting(Protocol):
    """What counts the tokens of a model: an engine, or its tokenizer alone."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, None where there is none."""
        ...

    @property
    def info(self) -> ModelInfo:
        """The model."""
        ...

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        ...


def prepared(
    model: TokenCounting,
    wording: Wording,
    sampling: Sampling,
    on_overflow: Overflow = "error",
    say: Callable[[str], None] = lambda text: None,
) -> RunContext:
    """The context of a run, with as many examples as fit. Raises UsageError as `check_sampling`."""
    wording = in_its_language(model, wording)
    check_sampling(wording.task, wording.chosen, sampling)
    limit = most_tokens(wording, sampling, model.info)
    fewer = _trimmed(wording, model, limit)
    notices: tuple[str, ...] = ()
    if len(fewer.shots) < len(wording.shots):
        notices = (
            f"{len(wording.shots) - len(fewer.shots)} of {len(wording.shots)} examples left out:"
            f" there is room for {limit} tokens in all",
        )
    return RunContext(
        wording=fewer,
        sampling=sampling,
        info=model.info,
        count=model.count,
        on_overflow=on_overflow,
        notices=notices,
        say=say,
    )


def in_its_language(model: TokenCounting, wording: Wording) -> Wording:
    """The wording for this model. Raises UsageError as `worded`.

    A model without a folder here is a server's, which is not asked for its vocabulary.
    """
    here = wording.open and model.info.folder is not None
    tokenizer = model.tokenizer if here else None
    if tokenizer is None:
        return wording
    from gptcli.checkpoints.tokenization.language import language_of

    return wording.spoken(language_of(tokenizer))


def _trimmed(wording: Wording, model: TokenCounting, limit: int) -> Wording:
    """The wording with the last examples that leave half of `limit` tokens free.

    The text that may be long does not count, because it can be cut.
    """
    long = wording.task.long.field
    field = "" if long == "input" else long
    while wording.shots and model.count(wording.text("", field)) > limit // 2:
        wording = wording.without(1)
    return wording


def calibration_prompts(wording: Wording) -> list[str]:
    """The prompts without an input whose labels are scored first, for the calibration."""
    way = wording.parameter("calibration") or "none"
    if way == "contextual":
        free = wording.parameter("content_free")
        return [wording.text(text) for text in (free if isinstance(free, tuple) else ("N/A",))]
    return [wording.domain] if way == "pmi" else []


def check_sampling(task: Task, chosen: Mapping[str, Value], sampling: Sampling) -> None:
    """Raise UsageError for sampling options that the task ignores or cannot work with."""
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


def withheld(task: Task, chosen: Mapping[str, Value]) -> str:
    """Why the answers' text cannot be given as it is written; empty if it can."""
    if task.answer.kind in ("labels", "spans"):
        return f"the answer of {task.name}"
    least = task.answer.parameters.get("abstain_below")
    if resolved(least, chosen) is not None:
        return "an answer that may be withheld"
    return ""


def most_tokens(wording: Wording, sampling: Sampling, info: ModelInfo) -> int:
    """Limit of prompt and continuation together, in tokens."""
    if wording.task.answer.kind == "labels" or sampling.max_length is None:
        return info.context
    return min(info.context, sampling.max_length)


def field_of(context: RunContext, question: Question) -> str:
    """The text that may be long: the input, or the value of an option."""
    name = context.wording.task.long.field
    return question.text if name == "input" else str(context.wording.chosen[name] or "")


def prompt_of(context: RunContext, question: Question, part: str) -> str:
    """The prompt with `part` instead of the text that may be long."""
    name = context.wording.task.long.field
    if name == "input":
        return context.wording.text(part)
    return context.wording.text(question.text, name, part)


def ask_of(context: RunContext, question: Question, part: str, of: str | None = None) -> Ask:
    """The request for `part`; `of` is the text that the answer is about, if it is another."""
    prompt = prompt_of(context, question, part)
    if context.kind == "labels":
        return AskLabel(prompt, part, context.choices(prompt))
    sampling, task = context.sampling, context.wording.task
    stop = tuple(dict.fromkeys((*task.stop, *sampling.stop)))
    wanted = sampling.logprobs
    if "abstain_below" in task.answer.parameters and sampling.num_beams == 1:
        wanted = wanted or 0
    parameters = {name: context.wording.parameter(name) for name in task.answer.parameters}
    read = reader(task.answer, parameters, part if of is None else of)
    return AskText(prompt, part, replace(sampling, stop=stop, logprobs=wanted), read)


def fitting(context: RunContext, question: Question) -> Fits:
    """Whether a part fits the context. Raises BadInput if not even an empty part fits."""
    limit = context.limit
    wanted = context.sampling.max_new_tokens or DEFAULT_NEW_TOKENS
    if context.kind == "labels":
        wanted = max(context.count(label) for label in context.labels) + 1
    most = limit - min(wanted, limit // 2)

    def fits(text: str) -> bool:
        # Whole prompts are counted: a template may repeat the text, or join it without a space.
        # A text so long that it could fit only as white space is not tokenised.
        if len(text) > MAX_CHARS_PER_TOKEN * most:
            return False
        return context.count(prompt_of(context, question, text)) <= most

    if not fits(""):
        raise BadInput(
            f"task {context.wording.task.name}",
            f"the prompt without its input nearly fills the {limit} tokens that are allowed",
            "Give fewer examples, a smaller --max-new-tokens, or a larger --max-length",
        )
    return fits


def cut_to_fit(text: str, side: Overflow, fits: Fits) -> str:
    """The longest beginning, or end, that fits."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        kept = text[:middle] if side == "truncate-right" else text[len(text) - middle :]
        low, high = (middle, high) if fits(kept) else (low, middle - 1)
    return text[:low] if side == "truncate-right" else text[len(text) - low :]
