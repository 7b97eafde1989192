"""Units with their ids become documents on the disk: ids, lengths, hashes, lengths of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.training.data.cutting import Unit
from gptcli.training.data.encoding import BATCH_CHARACTERS, BATCH_UNITS, IdEncoder
from gptcli.training.data.store import ArrayFile
from gptcli.training.data.tabulating import DOCUMENT_COLUMNS, document_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS = "ids.bin"


class DocumentWriter:
    """Takes the units of documents in order. Methods raise OSError, and as `IdEncoder.encode`.

    context: where prompts are muted, a prompt is cut on its left so that its completion fits.
    """

    def __init__(self, folder: Path, encoder: IdEncoder, context: int, mutes: bool) -> None:
        import numpy as np

        self.documents = self.tokens = self.prompts_cut = self.unknown = self.without_tokens = 0
        self.ids = ArrayFile(folder / IDS, encoder.dtype)
        self._encoder, self._context, self._mutes = encoder, context, mutes
        self._columns = {
            name: ArrayFile(document_file(folder, name), dtype)
            for name, dtype in DOCUMENT_COLUMNS.items()
        }
        self._units: list[Unit] = []
        self._waiting = 0  # characters of them
        self._end = np.array([encoder.end], np.uint32)
        self._prompt = self._end[:0]
        self._length, self._hash = 0, blake2b(digest_size=8)
        self._rows: list[tuple[int, int, int]] = []  # length, hash, muted of documents
        self._ids: list[NDArray[np.uint32]] = []
        self.ids.append(self._end)

    def add(self, unit: Unit) -> None:
        """Take a unit."""
        self._units.append(unit)
        self._waiting += len(unit.text)
        if self._waiting >= BATCH_CHARACTERS or len(self._units) >= BATCH_UNITS:
            self.flush()

    def flush(self) -> None:
        """Encode and write what waits; between documents all that was taken is written."""
        import numpy as np

        ids, counts = self._encoder.encode(self._units)
        if (unknown := self._encoder.tokenizer.unknown_id) is not None:
            self.unknown += int((ids == unknown).sum())
        self._taken(self._units, ids, counts)
        self._units, self._waiting = [], 0
        if self._ids:
            self.ids.append(np.concatenate(self._ids))
        for column, values in zip(
            self._columns.values(), zip(*self._rows, strict=True), strict=False
        ):
            column.append(np.array(values, column.dtype))
        self._ids, self._rows = [], []

    def close(self) -> None:
        """Write all, and flush the ids to the disk."""
        self.flush()
        self.ids.close()
        for file in self._columns.values():
            file.close(kept=False)

    def abandon(self) -> None:
        """Close the files as they are."""
        for file in (self.ids, *self._columns.values()):
            file.abandon()

    def _taken(self, units: Sequence[Unit], ids: NDArray[np.uint32], counts: Sequence[int]) -> None:
        at = 0
        for unit, count in zip(units, counts, strict=True):
            part = ids[at : at + count]
            at += count
            if unit.prompt:
                self._prompt = part
                continue
            muted = 0
            if unit.pair:
                part, muted = self._joined(part)
            self._hash.update(part.tobytes())
            self._length += len(part)
            if len(part):
                self._ids.append(part)
            if unit.last:
                self._ended(muted)

    def _joined(self, completion: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], int]:
        """A prompt and its completion, and how many of the first targets do not count."""
        import numpy as np

        prompt = self._prompt
        if not self._mutes:
            return np.concatenate([prompt, completion]), 0
        room = max(self._context - 1 - len(completion), self._context // 2)
        if len(prompt) > room:
            self.prompts_cut += 1
            prompt = prompt[len(prompt) - room :]
        return np.concatenate([prompt, completion]), len(prompt)

    def _ended(self, muted: int) -> None:
        if self._length:
            self.documents += 1
            self.tokens += self._length
            name = int.from_bytes(self._hash.digest(), "little")
            self._rows.append((self._length, name, muted))
            self._ids.append(self._end)
        else:
            self.without_tokens += 1
        self._length, self._hash = 0, blake2b(digest_size=8)
