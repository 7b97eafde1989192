"""From files to a corpus on the disk, once for a run: a run that goes on finds it there.

The folder `data` of a run is made beside its place and renamed, so it is there whole or not at all.
Memory holds a batch of text and a few blocks of tables, whatever the size of the data.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.integrity import digests
from gptcli.checkpoints.tokenization.loading import check_vocabulary
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, UsageError, WriteFailed
from gptcli.system import durable
from gptcli.system.units import counted, transfer_size
from gptcli.training.data import keeping
from gptcli.training.data.corpus import TrainingCorpus, TrainingFile
from gptcli.training.data.cutting import DocumentCutter
from gptcli.training.data.encoding import IdEncoder
from gptcli.training.data.input.documents import DataFound, in_words, parts_of
from gptcli.training.data.input.files import DataFile, DataFiles, expand
from gptcli.training.data.input.reading import DataSource
from gptcli.training.data.input.separating import DocumentPart
from gptcli.training.data.options import TrainingData
from gptcli.training.data.splitting import Split, copies, split
from gptcli.training.data.store import written
from gptcli.training.data.tabulating import DOCUMENT_COLUMNS, document_file, tabulate
from gptcli.training.data.writing import DocumentWriter

if TYPE_CHECKING:
    from gptcli.training.data.tabulating import TableWriter

DATA, PART = "data", ".data.part"
BYTES_A_TOKEN = 5  # at most, mostly: more tokens than this are not promised to fit the disk
Progress = Callable[[int, int], object]
"""Takes the bytes that are read, and those of all files."""


def prepare(
    data: Sequence[str],
    reading: TrainingData,
    tokenizer: Tokenizer,
    context: int,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
) -> TrainingCorpus:
    """The corpus of a run whose folder is `folder`: it is made, or the one that is there.

    Raises what is wrong with the data (BadInput, MissingInput, UsageError, Unavailable), with the
    tokenizer (BadModel), with writing (CannotCreate, WriteFailed), and where a run goes on with
    other data or settings (BadInput, UsageError).
    """
    encoder = IdEncoder(tokenizer)
    place = folder / DATA
    made_of = _made_of(reading, encoder, context, seed)
    if place.exists():
        corpus = keeping.reopened(place, made_of)
        check_sources(corpus, data, reading, folder)
        return corpus
    files = expand(data, folder)
    given = expand([reading.valid], folder) if reading.valid is not None else DataFiles(())
    part = folder / PART
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(part):  # what a killed run left
            shutil.rmtree(part)
        part.mkdir()
    try:
        _check_room(part, files.bytes + given.bytes, encoder)
        making = _Making(part, reading, encoder, context, seed, progress)
        with written(folder):
            making.make(files, given, made_of)
            durable.sync_folder(part / keeping.ABOUT)
            part.rename(place)
            durable.sync_folder(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return keeping.reopened(place, made_of)


def check_sources(
    corpus: TrainingCorpus, data: Sequence[str], reading: TrainingData, folder: Path | None = None
) -> None:
    """Raises BadInput, by name, where the files are not those that a corpus was made of.

    A file of the same contents under another name is the same.
    """
    given = [] if reading.valid is None else [reading.valid]
    for names, then in ((data, corpus.sources), (given, corpus.valid_sources)):
        files = expand(names, folder).files if names else ()
        found = digests.digests(file.path for file in files)
        for file, before in zip(files, then, strict=False):
            if found[file.path] != before.sha256:
                raise _changed(file.name, before, {old.name for old in then})
        if len(files) < len(then):
            raise _data_changed(then[len(files)].name, "it is gone")
        if len(files) > len(then):
            raise _data_changed(files[len(then)].name, "it is new")


def check_fit(tokenizer: Tokenizer, context: int, vocabulary: int, positions: int) -> None:
    """Fit a tokenizer and a context to the model that is trained.

    Raises UsageError for a context that is longer than the model's positions, BadModel for a
    tokenizer of many more tokens than embeddings; a text with one of a few more is refused later.
    """
    if context > positions:
        why = f"{context} tokens, and the model has {positions} positions"
        raise UsageError("--context", why, f"Give {positions} or less.")
    check_vocabulary(tokenizer, vocabulary)


class _Making:
    """A corpus while it is made in an empty folder."""

    def __init__(
        self,
        folder: Path,
        reading: TrainingData,
        encoder: IdEncoder,
        context: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self._folder, self._reading, self._encoder = folder, reading, encoder
        self._context, self._seed, self._progress = context, seed, progress
        self._done = self._total = 0
        self._notices: list[str] = []
        self._found = DataFound()

    def make(self, files: DataFiles, given: DataFiles, made_of: dict[str, object]) -> None:
        """Write everything. Raises as `prepare`, and OSError."""
        self._notices += [*files.notices, *given.notices]
        self._total = files.bytes + given.bytes
        mutes = self._reading.loss_on == "completion"
        writer = DocumentWriter(self._folder, self._encoder, self._context, mutes)
        try:
            sources = self._read(files, writer)
            own, tokens = writer.documents, writer.tokens
            self._check_enough(tokens, writer, files)
            valid_sources = self._read(given, writer)
            if given.files and writer.documents == own:
                raise BadInput(given.files[0].name, "there is no text in it", "Name another.")
            self._check_unchanged((*files.files, *given.files), (*sources, *valid_sources))
            writer.close()
        finally:
            writer.abandon()
        tables = self._tables(own, tokens, bool(given.files))
        self._say_found(writer)
        keeping.save(
            self._folder,
            made_of,
            {"dtype": self._encoder.dtype, "count": writer.ids.count, "sha256": writer.ids.sha256},
            tables,
            {
                "sources": keeping.listed(sources),
                "valid_sources": keeping.listed(valid_sources),
                "documents": writer.documents,
                "documents_by": in_words(
                    self._found, self._reading.documents, files, self._encoder.ends
                ),
                "notices": self._notices,
            },
        )
        for column in DOCUMENT_COLUMNS:
            durable.remove(document_file(self._folder, column))

    def _read(self, files: DataFiles, writer: DocumentWriter) -> tuple[TrainingFile, ...]:
        """Take the documents of files. Raises as `prepare`."""
        found = []
        cutter = DocumentCutter(whole=not self._encoder.cuts)
        for file in files.files:
            cutter.name, before = file.name, writer.documents
            source = DataSource(file, self._reading.errors, self._seen)
            for part in self._parts(source):
                for unit in cutter.units(part):
                    writer.add(unit)
            writer.flush()
            documents = writer.documents - before
            if file.format == "text":
                self._found.text_documents += documents
            found.append(
                TrainingFile(
                    name=file.name, bytes=source.bytes, documents=documents, sha256=source.sha256
                )
            )
        if self._reading.documents in ("auto", "file", "end-token", "row"):  # else blank lines
            self._found.empty += cutter.empty
        return tuple(found)

    def _parts(self, source: DataSource) -> Iterator[DocumentPart]:
        reading = self._reading
        return parts_of(source, reading, reading.documents, self._encoder.ends, self._found)

    def _seen(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _check_enough(self, tokens: int, writer: DocumentWriter, files: DataFiles) -> None:
        """Raises BadInput where there is nothing to learn."""
        name = files.files[0].name if len(files.files) == 1 else counted(len(files.files), "file")
        if not tokens:
            empty = self._found.empty + self._found.rows.empty + writer.without_tokens
            why = "all documents are empty" if empty > 1 else "there is no text in it"
            raise BadInput(name, why, "Name a file with text.")
        if tokens < 2:
            raise BadInput(name, "its text is a single token", "Give a longer text.")

    def _check_unchanged(self, files: Sequence[DataFile], sources: Sequence[TrainingFile]) -> None:
        """Raises BadInput where a file is no more what was read."""
        now = digests.digests(file.path for file in files)
        for file, source in zip(files, sources, strict=True):
            if now[file.path] != source.sha256:
                hint = "Run it again when the file is whole."
                raise BadInput(f"data changed: {file.name}", "it changed while it was read", hint)

    def _tables(self, own: int, tokens: int, given: bool) -> dict[str, TableWriter]:
        """Split, cut and write pieces, and say what came out. Raises BadInput, OSError."""
        lengths, hashes, muted = (document_file(self._folder, name) for name in DOCUMENT_COLUMNS)
        share = 0.0 if given else self._reading.valid_share
        chosen = Split()
        if share:
            chosen = split(lengths, hashes, muted, own, tokens, share, self._seed)
        train, valid, dropped = tabulate(self._folder, own, chosen, self._context)
        if not train.tokens:
            why = "every document of the data is in --valid, too"
            raise BadInput("nothing is left to train on", why, "Validate on another text.")
        twice = copies(hashes, own)
        if twice:
            are = "documents are copies of others" if twice > 1 else "document is a copy of another"
            where = ", on the same side of the split" if valid.tokens and not given else ""
            self._notices.append(f"{twice} {are}{where}")
        if dropped:
            these = counted(dropped, "document")
            self._notices.append(f"{these} left out of training: the same stands in --valid")
        if share and not valid.tokens:
            self._notices.append("too little text to keep some for validation")
        if chosen.tail is not None:
            kept = counted(chosen.tail.tokens, "token")
            self._notices.append(
                f"no document is short enough to be kept for validation: the last {kept} of the"
                " longest one are"
            )
        return {"train": train, "valid": valid}

    def _say_found(self, writer: DocumentWriter) -> None:
        found, rows = self._found, self._found.rows
        notices = found.notices
        if found.windows:
            more = f" and {len(found.windows) - 1} more" if len(found.windows) > 1 else ""
            notices.append(f"{found.windows[0]}{more}: line ends of Windows (CRLF) are read as LF")
        if empty := found.empty + rows.empty + writer.without_tokens:
            notices.append(f"{counted(empty, 'empty document')} left out")
        if found.replaced:
            notices.append(f"{counted(found.replaced, 'place')} that are not UTF-8 read as U+FFFD")
        if rows.unspaced:
            notices.append(
                f"{counted(rows.unspaced, 'completion')} of {rows.pairs} without a space before the"
                " first word: a model learns to write none there; begin completions with a space"
            )
        if rows.spaced:
            notices.append(
                f"{counted(rows.spaced, 'prompt')} of {rows.pairs} with a space at the end, a token"
                " of its own: put the space before the completion, and into prompts none"
            )
        if writer.prompts_cut:
            notices.append(
                f"{counted(writer.prompts_cut, 'prompt')} cut on the left to fit the context"
                f" of {self._context} with the completion"
            )
        if writer.unknown:
            notices.append(
                f"{counted(writer.unknown, 'token')} of {writer.tokens} are unknown"
                " to the vocabulary"
            )
        self._notices += notices


def _made_of(
    reading: TrainingData, encoder: IdEncoder, context: int, seed: int
) -> dict[str, object]:
    """What determines a corpus besides the files, by the names of flags."""
    raw = encoder.tokenizer.raw.to_str()
    named = f"{encoder.end} {encoder.tokenizer.size} {raw}".encode()
    return {
        "--documents": reading.documents,
        "--column": reading.column,
        "--prompt-column": reading.prompt_column,
        "--completion-column": reading.completion_column,
        "--loss-on": reading.loss_on,
        "--valid-share": float(reading.valid_share),
        "--delimiter": reading.delimiter,
        "--quoting": reading.quoting,
        "--errors": reading.errors,
        "--context": context,
        "--seed": seed,
        "tokenizer": hashlib.sha256(named).hexdigest(),
    }


def _check_room(folder: Path, size: int, encoder: IdEncoder) -> None:
    """Raises WriteFailed where the disk has no room for the ids."""
    need = size // BYTES_A_TOKEN * (2 if encoder.dtype == "<u2" else 4)
    with written(folder.parent):
        free = shutil.disk_usage(folder).free
    if need > free:
        why = f"the ids take about {transfer_size(need)}, and {transfer_size(free)} are free"
        raise WriteFailed(str(folder.parent), why, "Make room, or give another disk with -o.")


def _changed(name: str, before: TrainingFile, known: set[str]) -> BadInput:
    if name == before.name:
        return _data_changed(name, "it has other contents")
    if name in known:
        return _data_changed(before.name, "it is gone")
    return _data_changed(name, "it is new")


def _data_changed(name: str, why: str) -> BadInput:
    hint = "Put the former data back, or begin anew with another -o."
    return BadInput(f"data changed: {name}", f"{why} since this run began", hint)
