"""An engine that writes down what goes through it.

It wraps any other and passes everything on unchanged; a request becomes a line of the file once
its last answer is there. Windows of texts (`gptcli score`, `gptcli inspect`) are no runs to repeat
and are left out.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from gptcli import __version__, disk
from gptcli.batch.identity import sampled
from gptcli.engines import Engine
from gptcli.errors import CannotCreate, WriteFailed
from gptcli.files import reason
from gptcli.options import Load
from gptcli.records.record import Answered, Entry, Run, digest
from gptcli.results import Completion, Event, ModelInfo, Request, Score
from gptcli.tokenization import Tokenizer

Kept = Literal["text", "hash"]
LIBRARIES = "torch", "transformers", "tokenizers", "safetensors"
MADE_ANEW = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class Journal:
    """The file of a record, open to be written line by line."""

    def __init__(self, path: str, force: bool) -> None:
        """Make it. Raises CannotCreate, also where there is one and `force` is not given."""
        self._path = path
        there = Path(path)
        special = there.exists() and not S_ISREG(there.stat().st_mode)
        flags = os.O_TRUNC if force else 0 if special else os.O_EXCL
        try:
            self._descriptor = os.open(path, MADE_ANEW | flags, 0o666)
        except FileExistsError:
            raise CannotCreate(path, "it exists", "Overwrite it with --force.") from None
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise CannotCreate(path, why, "Choose another file with --record.") from None

    def write(self, line: dict[str, object]) -> None:
        """Add a line. Raises WriteFailed."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        try:
            disk.write_all(self._descriptor, text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise WriteFailed(f"record {self._path}", reason(error), "Make room.") from None

    def close(self) -> None:
        """Close it; what was written stays."""
        os.close(self._descriptor)


class Recorder:
    """The same engine, with a record of its answers; see `gptcli.engines.Engine`."""

    def __init__(self, engine: Engine, run: Run, journal: Journal, kept: Kept) -> None:
        self._engine, self._journal, self._kept = engine, journal, kept
        journal.write(run.to_dict())

    @property
    def info(self) -> ModelInfo:
        """The wrapped engine's."""
        return self._engine.info

    @property
    def tokenizer(self) -> Tokenizer:
        """The wrapped engine's."""
        return self._engine.tokenizer

    def count(self, text: str) -> int:
        """As the wrapped engine does."""
        return self._engine.count(text)

    def cancel(self, id: str) -> None:
        """As the wrapped engine does."""
        self._engine.cancel(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """As the wrapped engine does; a line is written before the last event of a request."""
        asked: dict[str, Request] = {}
        answers: dict[str, list[Completion]] = {}

        def watched() -> Iterator[Request | None]:
            for request in requests:
                if request is not None and request.window is None:
                    asked[request.id] = request
                yield request

        for event in self._engine.run(watched()):
            request = asked.get(event.id)
            if request is not None and isinstance(event, Score):
                self._write(asked.pop(event.id), [], event)
            elif request is not None and isinstance(event, Completion):
                found = answers.setdefault(event.id, [])
                found.append(event)
                if event.error or len(found) == request.sampling.num_return_sequences:
                    self._write(asked.pop(event.id), answers.pop(event.id))
            yield event

    def _write(
        self, request: Request, completions: list[Completion], score: Score | None = None
    ) -> None:
        seed = completions[0].seed if completions else request.sampling.seed
        answers = [_answered(item) for item in sorted(completions, key=lambda item: item.index)]
        if score is not None:
            answers = _scored(score)
        hashed = self._kept == "hash"
        entry = Entry(
            id=request.id,
            prompt=None if hashed else request.prompt,
            sha256=digest(request.prompt),
            sampling=replace(request.sampling, seed=seed),
            on_overflow=request.on_overflow,
            choices=None if hashed else request.choices,
            answers=tuple(replace(item, text=None) if hashed else item for item in answers),
        )
        self._journal.write(entry.to_dict())


def run_of(engine: Engine, command: str, load: Load, slots: int, beams: bool) -> Run:
    """What is to be written of a run before its requests."""
    info = engine.info
    revision = info.revision
    if revision is None and info.folder is not None:
        revision = sampled(info.folder)
    return Run(
        command=command,
        model=info.name,
        revision=revision,
        dtype=info.dtype,
        device=info.device,
        threads=load.threads,
        slots=slots,
        beams=beams,
        options=load,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """What a text may depend on beside the model and the options."""
    found = {"gptcli": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"machine": f"{platform.system()} {platform.machine()}"}


def _answered(item: Completion) -> Answered:
    return Answered(
        text=item.text,
        sha256=digest(item.text),
        finish_reason=item.finish_reason,
        tokens=item.usage.completion_tokens,
    )


def _scored(score: Score) -> list[Answered]:
    """The likelihood of each choice; one answer that says so where there was an error."""
    if score.error is not None:
        return [Answered(text="", sha256=digest(""), finish_reason="error", tokens=0)]
    return [
        Answered(
            text=choice.text,
            sha256=digest(choice.text),
            finish_reason="scored",
            tokens=len(choice.tokens),
            logprob=choice.total,
        )
        for choice in score.choices
    ]
