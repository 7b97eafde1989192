"""A checkpoint on the disk as a base of adapters: names, layouts, and numbers in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.checkpoints.adapters import numbers
from gptcli.checkpoints.preflight import CheckedCheckpoint, plain_name
from gptcli.checkpoints.safetensors_headers import Tensor

if TYPE_CHECKING:
    from gptcli.checkpoints.adapters.numbers import Array

CONV1D = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}  # matrices are (in, out) there
EMBEDDINGS = ("wte.weight", "model.embed_tokens.weight", "gpt_neox.embed_in.weight")
HEADS = ("lm_head.weight", "embed_out.weight")


class StoredBase:
    """The tensors of a checked checkpoint; see `AdapterBase` in `changes`."""

    def __init__(self, checked: CheckedCheckpoint, label: str) -> None:
        self.label = label
        self.tensors: dict[str, Tensor] = checked.tensors
        self._gpt2 = checked.gpt2 is not None
        self._conv1d = checked.model_type in CONV1D
        self.embedding = next((name for name in EMBEDDINGS if name in self.tensors), None)
        stored = next((name for name in HEADS if name in self.tensors), None)
        told = checked.config.get("tie_word_embeddings", self._gpt2)
        tied = checked.gpt2.tie_word_embeddings if checked.gpt2 else bool(told)
        self.tied = self.embedding is not None and (tied or stored is None)
        self.head: str | None = stored or HEADS[0]

    def find(self, module: str, part: str) -> str | None:
        """The name of a module's parameter in the checkpoint."""
        given = f"{module}.{part}"
        name = plain_name(given) if self._gpt2 else given
        return name if name in self.tensors or (self.tied and name == self.head) else None

    def entry(self, name: str) -> Tensor:
        """Where a parameter lies; a tied head is the embedding."""
        if name not in self.tensors and name == self.head:
            return self.tensors[str(self.embedding)]
        return self.tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape as it is stored."""
        return self.entry(name).shape

    def turned(self, name: str) -> bool:
        """Whether a matrix is stored as (in, out)."""
        return self._conv1d and name not in (self.embedding, self.head, "wpe.weight")

    def floats(self, name: str) -> Array:
        """The numbers in float32. Raises MissingInput, BadModel."""
        return numbers.floats(self.entry(name))
