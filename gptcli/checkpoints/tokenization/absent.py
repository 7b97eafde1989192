"""In place of a tokenizer: for a model that is asked by token ids alone.

Music, moves, proteins: some models have no text, and their folders no tokenizer. What needs a text
raises the error that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gptcli.checkpoints.tokenization.roles import TokenRoles
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel
from gptcli.system.strict_json import read_object


class NoTokenizer(Tokenizer):
    """Knows no text: encoding raises `why`, and decoding gives none."""

    def __init__(self, folder: Path, why: BadModel) -> None:
        import tokenizers

        super().__init__(tokenizers.Tokenizer(tokenizers.models.WordLevel({})), None)
        self._why, self.roles = why, _roles(folder)

    def encode(self, text: str, bare: bool = False) -> list[int]:
        """Raises BadModel, but for an empty text."""
        return self._refuse() if text else []

    def encode_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Raises BadModel."""
        self._refuse()

    def special_id(self, text: str) -> int | None:
        """Raises BadModel."""
        self._refuse()

    def unknown(self, text: str, ids: Sequence[int] | None = None) -> tuple[str, ...]:
        """None: there is no text."""
        return ()

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """No text."""
        return ""

    def token_text(self, id: int) -> str:
        """The id, for display."""
        return str(id)

    def limit(self, embeddings: int) -> None:
        """Know as many tokens as the model."""
        self.size = embeddings
        self.roles = self.roles.within(embeddings)

    def _refuse(self) -> NoReturn:
        raise self._why


def _roles(folder: Path) -> TokenRoles:
    """What the configuration names, all of it special tokens."""
    found = TokenRoles()
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            named = read_object(folder / name)
            found = found.with_defaults(named.get("bos_token_id"), named.get("eos_token_id"))
    return found
