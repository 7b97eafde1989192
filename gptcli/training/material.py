"""Model, tokenizer and data of a run: those that lie in its folder, or made.

Where a run begins, also anew, what a killed or former one left there is replaced unless it is the
same. A run that goes on refuses what differs.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli import __version__
from gptcli.errors import BadInput, UsageError
from gptcli.options.spec import changed
from gptcli.training import start
from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.data.preparing import prepare
from gptcli.training.durability.changes import asked_otherwise, check_model, differing
from gptcli.training.durability.folder import RunFolder, writing
from gptcli.training.durability.run_file import RunData, RunFile, RunMachine, RunModel
from gptcli.training.options import TrainOptions
from gptcli.training.plan import TrainingPlan
from gptcli.training.start import StartingModel
from gptcli.training.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from gptcli.training.compute.session import ComputeDevice

_NOT_COMPARED = ("output", "force", "dry_run")
DEFAULT_VOCABULARY = 4096  # tokens of a tokenizer that is trained
Waiting = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Material:
    """What a run learns, and with what model."""

    starting: StartingModel
    corpus: TrainingCorpus
    notices: tuple[str, ...]


def gather(options: TrainOptions, folder: RunFolder, waiting: Waiting) -> Material:
    """Find or make it all. Raises what is wrong with any of it; BadInput for what differs."""
    notices: list[str] = []

    def tokenizer() -> Path:
        notices.extend(_make_tokenizer(options, folder, waiting))
        return folder.tokenizer

    with waiting("looking for the model"):
        starting = start.find(options.model, tokenizer)
    if folder.run is not None:
        check_model(folder.name, folder.run, model_of(starting), asked_of(options))
    with waiting("reading the data"):
        corpus = _corpus(options, folder, starting)
    return Material(starting, corpus, (*notices, *starting.notices, *corpus.notices))


def asked_of(options: TrainOptions) -> dict[str, object]:
    """The options that were given, as run.json has them."""
    groups = (options.reading, options.model, options.optimization, options.following)
    found = {name: value for group in groups for name, value in changed(group).items()}
    return {name: value for name, value in found.items() if name not in _NOT_COMPARED}


def model_of(starting: StartingModel) -> RunModel:
    """The model as run.json has it."""
    return RunModel(
        base=starting.name,
        revision=starting.revision,
        config=dict(starting.described),
        files=dict(starting.digests),
    )


def run_file_of(
    options: TrainOptions, material: Material, planned: TrainingPlan, device: ComputeDevice
) -> RunFile:
    """run.json of a run that begins."""
    corpus = material.corpus
    return RunFile(
        id=secrets.token_hex(8),
        version=__version__,
        asked=asked_of(options),
        settings=planned.settings,
        machine=RunMachine(
            torch=device.torch,
            threads=device.threads,
            device=device.name,
            micro_tokens=planned.fit.micro_tokens,
        ),
        model=model_of(material.starting),
        data=RunData(
            digest=corpus.digest,
            documents=corpus.documents,
            documents_by=corpus.documents_by,
            sources=(*corpus.sources, *corpus.valid_sources),
        ),
    )


def _make_tokenizer(options: TrainOptions, folder: RunFolder, waiting: Waiting) -> tuple[str, ...]:
    """Train the tokenizer of a new model; gives notices."""
    if folder.run is not None and folder.tokenizer.is_dir():
        return ()
    _drop(folder.tokenizer)
    size = options.model.vocab_size or DEFAULT_VOCABULARY
    with waiting("training the tokenizer"):
        return train_tokenizer(options.data, size, options.reading, folder.tokenizer).notices


def _corpus(options: TrainOptions, folder: RunFolder, starting: StartingModel) -> TrainingCorpus:
    def prepared() -> TrainingCorpus:
        return prepare(
            options.data,
            options.reading,
            starting.tokenizer,
            starting.context,
            options.optimization.seed,
            folder.path,
        )

    try:
        return prepared()
    except (UsageError, BadInput) as error:
        if folder.run is not None and isinstance(error, UsageError):
            found = asked_otherwise(folder.run.asked, asked_of(options))
            raise differing(folder.name, found or [f"{error.what}: {error.why}"]) from None
        if folder.run is not None or not folder.data.is_dir():
            raise
    _drop(folder.data)
    return prepared()


def _drop(path: Path) -> None:
    """Remove a folder of a run that is not gone on with; a rename makes it one step."""
    with writing(path), suppress(FileNotFoundError):
        old = path.with_name(f".{path.name}.old.part")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        shutil.rmtree(old)
