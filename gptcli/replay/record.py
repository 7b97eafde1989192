"""A record as a file: a line about the run, then a line for each request that was answered.

JSON lines, each written when it is complete: an interrupted run leaves a record of what it had
finished. A record may come from a stranger, so all of it is checked like a user's input. Not here:
how it is taken is in `gptcli.replay.recorder`, how it runs again in `gptcli.replay.replaying`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from gptcli.checkpoints.integrity.content import checked_content
from gptcli.errors import BadInput, UsageError
from gptcli.inputs.prompt import errors_of_file
from gptcli.inputs.token_ids import listed
from gptcli.options import Load, Overflow, Sampling
from gptcli.options.moderation import ModeratedLoad
from gptcli.options.spec import changed, rebuilt
from gptcli.protocol import GenerateRequest, LoglikelihoodRequest, TextOrIds
from gptcli.system.regular_files import open_once
from gptcli.system.strict_json import parse_object

FORMAT = 1
MAX_LINE_BYTES = 1 << 26
RECORD_AGAIN = "Record the run again with --record."
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """What ran: `options` is how the model was opened, `slots` how many sequences at a time.

    `revision` is a Hub model's commit, or a digest of samples of a folder's files; None with a
    server. `files`: the SHA-256 of each file of the model that decides what it writes; empty with
    a server, and in records of former versions. `filter`: what `gptcli.moderation.told.identity`
    says; empty without one.
    `versions` are those of gptcli, of Python and of the libraries that compute.
    """

    command: str
    model: str
    revision: str | None
    dtype: str
    device: str
    threads: int | None
    slots: int
    beams: bool
    options: Load
    versions: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    filter: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The first line of the file."""
        shown: dict[str, object] = {
            "gptcli_record": FORMAT,
            "command": self.command,
            "model": self.model,
            "revision": self.revision,
            "files": dict(self.files),
            "dtype": self.dtype,
            "device": self.device,
            "threads": self.threads,
            "slots": self.slots,
            "beams": self.beams,
            "options": changed(self.options),
            "versions": dict(self.versions),
        }
        return {**shown, "filter": dict(self.filter)} if self.filter else shown


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One result of a request: a text, or how likely a given one is. Hashed: its SHA-256 alone."""

    text: str | None
    sha256: str
    finish_reason: str
    tokens: int
    logprob: float | None = None

    def to_dict(self) -> dict[str, object]:
        """As a line of the file holds it."""
        shown: dict[str, object] = {
            "text": self.text,
            "sha256": self.sha256,
            "finish_reason": self.finish_reason,
            "tokens": self.tokens,
        }
        return shown if self.logprob is None else {**shown, "logprob": self.logprob}


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """A request and its answers; `prompt` and `choices` are None where they were hashed.

    With choices it is a LoglikelihoodRequest, else a GenerateRequest: then `sampling` has the seed
    that was drawn.
    """

    id: str
    prompt: TextOrIds | None
    sha256: str  # of the prompt
    sampling: Sampling
    on_overflow: Overflow
    choices: tuple[str, ...] | None
    answers: tuple[Answered, ...]

    def to_dict(self) -> dict[str, object]:
        """A line of the file."""
        return {
            "id": self.id,
            "prompt": list(self.prompt) if isinstance(self.prompt, tuple) else self.prompt,
            "prompt_sha256": self.sha256,
            "sampling": changed(self.sampling),
            "on_overflow": self.on_overflow,
            "choices": None if self.choices is None else list(self.choices),
            "answers": [answer.to_dict() for answer in self.answers],
        }

    def request(self, prompt: TextOrIds, id: str) -> GenerateRequest | LoglikelihoodRequest:
        """The same once more."""
        if self.choices and isinstance(prompt, str):
            return LoglikelihoodRequest(
                id=id, prompt=prompt, choices=self.choices, on_overflow=self.on_overflow
            )
        return GenerateRequest(
            id=id, prompt=prompt, sampling=self.sampling, on_overflow=self.on_overflow
        )


def digest(text: TextOrIds) -> str:
    """A text's SHA-256, in hexadecimal, of its UTF-8; of token ids that of their JSON."""
    text = text if isinstance(text, str) else json.dumps(list(text))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read(path: str) -> tuple[RecordedRun, Iterator[RecordedRequest]]:
    """What a record says; entries are read when they are asked for.

    Raises MissingInput; BadInput, naming line and rule, for a file that is none.
    """
    lines = _lines(path)
    number, first = next(lines, (0, b""))
    if not number:
        raise BadInput(f"record {path}", "there is not one whole line in it", RECORD_AGAIN)
    run = _checked(path, number, first, _run)
    return run, (_checked(path, number, line, _entry) for number, line in lines)


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of the file from 1; a last one that a killed run left torn is none."""
    with errors_of_file(path), open_once(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise BadInput(f"record {path}: line {number}", "it is too long", RECORD_AGAIN)
            if line.endswith(b"\n"):
                yield number, line


def _checked(path: str, number: int, line: bytes, make: Callable[[dict[str, Any]], T]) -> T:
    try:
        return make(dict(parse_object(line)))
    except UsageError as error:
        why = error.in_flags.message
    except KeyError as error:
        why = f"it has no {error}"
    except (ValueError, TypeError) as error:
        why = str(error) or "it is no line of a record"
    raise BadInput(f"record {path}: line {number}", why, RECORD_AGAIN)


def _run(found: dict[str, Any]) -> RecordedRun:
    if "gptcli_record" not in found:
        raise ValueError("it is no record of gptcli")
    if found["gptcli_record"] != FORMAT:
        raise ValueError(
            f"its format is {str(found['gptcli_record'])[:20]}, this gptcli knows {FORMAT}"
        )
    slots = _of(found, "slots", int)
    if not 1 <= slots <= 1024:
        raise ValueError("slots is out of range")
    return RecordedRun(
        command=_of(found, "command", str),
        model=_of(found, "model", str),
        revision=_of(found, "revision", str, type(None)),
        dtype=_of(found, "dtype", str),
        device=_of(found, "device", str),
        threads=_of(found, "threads", int, type(None)),
        slots=slots,
        beams=_of(found, "beams", bool),
        options=_options(_of(found, "options", dict)),
        versions={str(name): str(value) for name, value in _of(found, "versions", dict).items()},
        files=checked_content(found.get("files", {})),
        filter=_of({"filter": {}, **found}, "filter", dict),
    )


def _options(found: dict[str, Any]) -> Load:
    filtered = any(name.startswith(("filter", "moderator")) for name in found)
    return rebuilt(ModeratedLoad if filtered else Load, found)


def _entry(found: dict[str, Any]) -> RecordedRequest:
    overflow = found["on_overflow"]
    if overflow not in get_args(Overflow):
        raise ValueError("on_overflow has an unknown value")
    choices = _of(found, "choices", list, type(None))
    if choices is not None and not all(isinstance(choice, str) for choice in choices):
        raise ValueError("choices is no list of texts")
    return RecordedRequest(
        id=_of(found, "id", str),
        prompt=_prompt(_of(found, "prompt", str, list, type(None))),
        sha256=_of(found, "prompt_sha256", str),
        sampling=rebuilt(Sampling, _of(found, "sampling", dict)),
        on_overflow=overflow,
        choices=None if choices is None else tuple(choices),
        answers=tuple(_answered(answer) for answer in _of(found, "answers", list)),
    )


def _prompt(found: Any) -> TextOrIds | None:
    if not isinstance(found, list):
        return found  # type: ignore[no-any-return]
    try:
        return listed(found, "prompt")
    except BadInput as error:
        raise ValueError(error.message) from None


def _answered(found: Any) -> Answered:
    if not isinstance(found, dict):
        raise ValueError("an answer is no object")
    logprob = found.get("logprob")
    return Answered(
        text=_of(found, "text", str, type(None)),
        sha256=_of(found, "sha256", str),
        finish_reason=_of(found, "finish_reason", str),
        tokens=_of(found, "tokens", int),
        logprob=None if logprob is None else float(logprob),
    )


def _of(found: Mapping[str, Any], key: str, *kinds: type) -> Any:
    value = found[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{key} is of another kind")
    return value
