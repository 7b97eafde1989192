"""Token ids of many texts at once, the same that `generate` gives to a prompt.

Where the tokenizer puts nothing around a text, the library encodes a batch on all cores. Any other
tokenizer encodes text by text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.roles import END_OF_TEXT
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel
from gptcli.training.data.cutting import Unit, can_cut

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_CHARACTERS = 1 << 20  # the library takes some 30 bytes of memory for each
BATCH_UNITS = 1 << 13


class IdEncoder:
    """A tokenizer that ends documents. Raises BadModel where it has no token for that."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        if tokenizer.eos_id is None:
            raise BadModel(
                f"tokenizer {tokenizer.name}",
                "it has no token that ends a text, so a model could not learn where to end",
                'Name one in tokenizer_config.json: "eos_token", or take another --tokenizer.',
            )
        self.end: int = tokenizer.eos_id
        self.cuts = can_cut(tokenizer)
        self._at_once = not tokenizer.raw.num_special_tokens_to_add(False)

    @property
    def ends(self) -> tuple[str, ...]:
        """How the token that ends a text is written, and how GPT-2's is."""
        written = self.tokenizer.raw.id_to_token(self.end) or END_OF_TEXT
        return tuple(dict.fromkeys((written, END_OF_TEXT)))

    @property
    def dtype(self) -> str:
        """The smallest type of NumPy that holds all ids."""
        return "<u2" if self.tokenizer.size <= 1 << 16 else "<u4"

    def encode(self, units: Sequence[Unit]) -> tuple[NDArray[np.uint32], list[int]]:
        """The ids of all units, one after another, and how many each has.

        Raises BadInput (a text that the vocabulary or the model lacks a token for), BadModel.
        """
        import numpy as np

        found = self._batch(units) if self._at_once else None
        if found is None:
            found = [self.tokenizer.encode(unit.text, bare=not unit.first) for unit in units]
        counts = list(map(len, found))
        ids = np.fromiter(chain.from_iterable(found), np.uint32, sum(counts))
        if ids.size and int(ids.max()) >= self.tokenizer.size:
            for unit in units:
                self.tokenizer.encode(unit.text)  # says which token it is
        return ids, counts

    def _batch(self, units: Sequence[Unit]) -> list[list[int]] | None:
        texts = [unit.text for unit in units]
        try:
            encoded = self.tokenizer.raw.encode_batch_fast(texts, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException:  # of one of the texts: encoded by itself, it says what is wrong
            return None
        return [one.ids for one in encoded]
