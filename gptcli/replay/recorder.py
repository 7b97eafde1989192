"""An engine that records what goes through it.

It wraps another engine and passes everything on unchanged. A request becomes a line of the file
when its last result is there. A RollingRequest (`gptcli score`, `gptcli inspect`) is no run to
repeat and gets no line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from gptcli.batch.run.identity import sampled
from gptcli.checkpoints.adapters.opened import content_of
from gptcli.errors import CannotCreate, WriteFailed
from gptcli.moderation.told import identity
from gptcli.multiplex import Unanswered
from gptcli.options import Load, Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Engine,
    Event,
    GenerateRequest,
    LoglikelihoodRequest,
    Request,
    Result,
    RollingRequest,
)
from gptcli.replay.record import Answered, RecordedRequest, RecordedRun, digest
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import open_pipe
from gptcli.system.versions import versions
from gptcli.wrapped import WrappedEngine

Kept = Literal["text", "hash"]
RECORDED_LIBRARIES = "torch", "transformers", "tokenizers", "safetensors"
OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class RecordFile:
    """The file of a record, open to be written line by line."""

    def __init__(self, path: str, force: bool) -> None:
        """Make it. Raises CannotCreate, also where there is one and `force` is not given."""
        self._path = path
        there = Path(path)
        try:
            special = there.exists() and not S_ISREG(there.stat().st_mode)
            flags = os.O_TRUNC if force else os.O_EXCL
            self._descriptor = (
                open_pipe(path) if special else os.open(path, OPEN_FLAGS | flags, 0o666)
            )
        except FileExistsError:
            raise CannotCreate(path, "it exists", "Overwrite it with --force.") from None
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise CannotCreate(path, why, "Choose another file with --record.") from None

    def write(self, line: dict[str, object]) -> None:
        """Add a line. Raises WriteFailed."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        try:
            durable.write_all(self._descriptor, text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise WriteFailed(f"record {self._path}", reason(error), "Make room.") from None

    def close(self) -> None:
        """Close it; what was written stays, for good. Raises WriteFailed."""
        try:
            durable.flush(self._descriptor)
        except OSError as error:
            raise WriteFailed(f"record {self._path}", reason(error), "Make room.") from None
        finally:
            os.close(self._descriptor)


class Recorder(WrappedEngine):
    """The same engine, with a record of its answers; see `gptcli.protocol.Engine`."""

    def __init__(self, engine: Engine, run: RecordedRun, journal: RecordFile, kept: Kept) -> None:
        super().__init__(engine)
        self._journal, self._kept = journal, kept
        journal.write(run.to_dict())

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """As the wrapped engine does; a line is written before the last event of a request."""
        asked: dict[str, GenerateRequest | LoglikelihoodRequest] = {}
        waiting = Unanswered()

        def watched() -> Iterator[Request | None]:
            for request in requests:
                if request is not None and not isinstance(request, RollingRequest):
                    asked[request.id] = request
                    waiting.add(request)
                yield request

        for event in self._engine.run(watched()):
            if not isinstance(event, Chunk) and (results := waiting.take(event)):
                self._journal.write(self._entry(asked.pop(event.id), results).to_dict())
            yield event

    def _entry(
        self, request: GenerateRequest | LoglikelihoodRequest, results: list[Result]
    ) -> RecordedRequest:
        hashed = self._kept == "hash"
        sampling, choices = Sampling(), tuple[str, ...]()
        match request:
            case GenerateRequest():
                seeds = [result.seed for result in results if isinstance(result, Completion)]
                sampling = replace(request.sampling, seed=seeds[0])
            case LoglikelihoodRequest():
                choices = request.choices
        answers = [answer for result in results for answer in _answers(result)]
        return RecordedRequest(
            id=request.id,
            prompt=None if hashed else request.prompt,
            sha256=digest(request.prompt),
            sampling=sampling,
            on_overflow=request.on_overflow,
            choices=None if hashed else choices,
            answers=tuple(replace(item, text=None) if hashed else item for item in answers),
        )


def run_of(engine: Engine, command: str, load: Load, slots: int, beams: bool) -> RecordedRun:
    """What is to be written of a run before its requests.

    Raises BadModel and MissingInput for the model's files.
    """
    info = engine.info
    revision = info.revision
    if revision is None and info.folder is not None:
        revision = sampled(info.folder)
    files: dict[str, str] = {}
    if info.folder is not None:
        files = content_of(info.folder, info.adapted.adapters, info.name)
    return RecordedRun(
        command=command,
        model=info.name,
        revision=revision,
        dtype=info.dtype,
        device=info.device,
        threads=load.threads,
        slots=slots,
        beams=beams,
        options=load,
        versions=versions(RECORDED_LIBRARIES),
        files=files,
        filter=identity(load),
    )


def _answers(result: Result) -> list[Answered]:
    """A text, or the likelihood of each choice; one that says so where there was an error."""
    if isinstance(result, Completion):
        return [
            Answered(
                text=result.text,
                sha256=digest(result.text),
                finish_reason=result.finish_reason,
                tokens=result.usage.completion_tokens,
            )
        ]
    if not isinstance(result, ChoiceLogprobs) or result.error is not None:
        return [Answered(text="", sha256=digest(""), finish_reason="error", tokens=0)]
    return [
        Answered(
            text=choice.text,
            sha256=digest(choice.text),
            finish_reason="scored",
            tokens=len(choice.tokens),
            logprob=choice.total,
        )
        for choice in result.choices
    ]
