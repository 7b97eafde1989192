"""A byte-level BPE tokenizer of GPT-2's kind, trained on a person's own text.

The words are GPT-2's, the first tokens are the 256 bytes, and the last is the one that ends a text.
The library keeps every word of the text in memory, at some 100 bytes for each of its bytes, and in
text without spaces a word is half a sentence. So of much text only every so manieth piece is read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.roles import END_OF_TEXT
from gptcli.errors import BadInput, CannotCreate
from gptcli.inputs.compressed import SUFFIXES
from gptcli.system import durable
from gptcli.system.units import counted
from gptcli.training.data.cutting import DocumentCutter
from gptcli.training.data.input.documents import DataFound, parts_of
from gptcli.training.data.input.files import DataFiles, errors_of, expand
from gptcli.training.data.input.reading import DataSource, Seen
from gptcli.training.data.options import DataReading
from gptcli.training.data.store import written

if TYPE_CHECKING:
    import tokenizers

SAMPLE_BYTES = 1 << 28  # of text that is read at most
WORD_BYTES = 1 << 23  # of words, each counted once, that are held at most
MOST_SHARE = 0.9  # of the files that fits, where not all does: files are read in large pieces
UNPACKED = 4  # times the bytes of packed text, about
LEAST_COUNT = 2  # of a pair of tokens that are joined
JSON, VOCABULARY, MERGES, CONFIG = FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
)


@dataclass(frozen=True)
class TrainedTokenizer:
    """Where a tokenizer lies, and what came out."""

    folder: Path
    size: int  # tokens
    characters: int  # that were read
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """As --json shows it."""
        return {
            "folder": str(self.folder),
            "size": self.size,
            "characters": self.characters,
            "notices": list(self.notices),
        }


def train_tokenizer(
    data: Sequence[str],
    size: int,
    reading: DataReading,
    folder: Path,
    *,
    force: bool = False,
    seen: Seen | None = None,
) -> TrainedTokenizer:
    """Train a tokenizer of at most `size` tokens, and write it into a folder.

    The same data gives the same files. Raises what is wrong with the data, as `prepare` does;
    CannotCreate where the folder has a tokenizer, unless `force`, or cannot be written;
    WriteFailed.
    """
    if not force:
        _check_free(folder)
    files = expand(data, folder)
    texts = _Texts(files, reading, seen or (lambda _: None))
    texts.fit()
    raw = _trained(texts, size)
    if not texts.characters:
        raise BadInput(files.files[0].name, "there is no text in it", "Name a file with text.")
    notices = [*files.notices, *texts.found.notices]
    if texts.every > 1:
        part = {2: "every 2nd", 3: "every 3rd"}.get(texts.every, f"every {texts.every}th")
        read = f"{texts.characters / 1e6:.1f} million characters"
        why = "the words of it all may not fit memory"
        notices.append(f"trained on {part} piece of the text, {read}: {why}")
    got = raw.get_vocab_size(with_added_tokens=True)
    if got < size:
        notices.append(
            f"the text gives {counted(got, 'token')}, not {size}: no other pair of tokens"
            " stands in it twice"
        )
    _save(raw, folder)
    return TrainedTokenizer(folder, got, texts.characters, tuple(notices))


class _Texts:
    """The text of files in pieces, without the tokens that end texts."""

    def __init__(self, files: DataFiles, reading: DataReading, seen: Seen) -> None:
        self.found, self.characters = DataFound(), 0
        self._size = _size(files)
        self.every = max(-(-self._size // SAMPLE_BYTES), 1)
        self._files, self._reading, self._seen = files, reading, seen

    def fit(self) -> None:
        """Read so seldom that the words fit memory: found out by reading, as far as needed."""
        while (share := self._share_that_fits()) < 1:
            self.every = max(round(self.every / share * 1.1), self.every + 1)
        self.characters, self.found = 0, DataFound()

    def __iter__(self) -> Iterator[str]:
        number = 0
        for file in self._files.files:
            cutter = DocumentCutter(whole=False, name=file.name)
            source = DataSource(file, self._reading.errors, self._seen)
            for part in parts_of(source, self._reading, "auto", (END_OF_TEXT,), self.found):
                for unit in cutter.units(part):
                    if number % self.every == 0 and unit.text:
                        self.characters += len(unit.text)
                        yield unit.text
                    number += 1

    def _share_that_fits(self) -> float:
        """The share of the files after which words take more than WORD_BYTES; 1 for all."""
        if self._size <= WORD_BYTES * self.every:
            return 1.0
        known: set[int] = set()
        held, read, seen = 0, 0, self._seen

        def count(size: int) -> None:
            nonlocal read
            read += size

        self._seen = count
        try:
            for text in self:
                for word in text.split():
                    if (name := hash(word)) not in known:
                        known.add(name)
                        held += len(word) if word.isascii() else len(word.encode())
                if held > WORD_BYTES:
                    return min(max(read, 1) / self._files.bytes, MOST_SHARE)
        finally:
            self._seen = seen
        return 1.0


def _size(files: DataFiles) -> int:
    """Bytes of all texts, about."""
    total = 0
    for file in files.files:
        with errors_of(file.name):
            size = file.path.stat().st_size
        total += size * (UNPACKED if file.path.suffix.lower() in SUFFIXES else 1)
    return total


def _trained(texts: _Texts, size: int) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learning = tokenizers.Tokenizer(models.BPE())
    learning.pre_tokenizer = cut
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        min_frequency=LEAST_COUNT,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learning.train_from_iterator(iter(texts), trainer)
    model = json.loads(learning.to_str())["model"]
    vocabulary = {**model["vocab"], END_OF_TEXT: len(model["vocab"])}
    merges = [tuple(pair) for pair in model["merges"]]
    raw = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="")
    )
    raw.pre_tokenizer, raw.decoder = cut, decoders.ByteLevel()
    raw.post_processor = processors.ByteLevel(trim_offsets=False)
    raw.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return raw


def _contents(raw: tokenizers.Tokenizer) -> dict[str, str]:
    """The text of each file."""
    ids = raw.get_vocab(with_added_tokens=True)
    vocabulary = {token: ids[token] for token in sorted(ids, key=lambda token: ids[token])}
    merges = json.loads(raw.to_str())["model"]["merges"]
    roles = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    config = {"add_prefix_space": False, **roles, "tokenizer_class": "GPT2Tokenizer"}
    return {
        VOCABULARY: json.dumps(vocabulary, ensure_ascii=False) + "\n",
        MERGES: "".join(["#version: 0.2\n", *(f"{a} {b}\n" for a, b in merges)]),
        CONFIG: json.dumps(config, indent=2) + "\n",
        JSON: raw.to_str(pretty=True) + "\n",
    }


def _save(raw: tokenizers.Tokenizer, folder: Path) -> None:
    """Write the files: into a new folder beside the place, or one by one into one that is there."""
    with written(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = folder.parent / f".{folder.name}.{os.urandom(8).hex()}.part"
        staging.mkdir()
        try:
            for name, text in _contents(raw).items():
                durable.save(staging / name, text.encode())
            if not folder.is_dir():
                staging.rename(folder)
                durable.sync_folder(folder)
                return
            for name in FILES:  # of two tokenizers no mixture must be left
                durable.remove(folder / name)
            for name in reversed(FILES):
                durable.put(staging / name, folder / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _check_free(folder: Path) -> None:
    """Raises CannotCreate where a tokenizer is there."""
    for name in FILES:
        if os.path.lexists(folder / name):
            why = f"{name} exists"
            raise CannotCreate(str(folder), why, "Give another -o, or overwrite it with --force.")
