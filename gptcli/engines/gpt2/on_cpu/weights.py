"""The weights of a GPT-2 on a CPU: matrices in blocks, and the structures that hold them.

Embeddings of tokens stay in their file, because a step reads one row a token. Headers were checked
by `gptcli.checkpoints.preflight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor as Entry
from gptcli.engines.gpt2.on_cpu.memory import Floats, address
from gptcli.engines.gpt2.on_cpu.packing import (
    PackedMatrix,
    Packer,
    StoredTensors,
    matrix_names,
    read_rows,
)
from gptcli.native import Library
from gptcli.native.structures import (
    ACTIVATIONS,
    LayerStruct,
    MatrixStruct,
    ModelStruct,
    NormStruct,
)
from gptcli.system.strict_json import open_model_file

STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
"""Names of --dtype -> safetensors' names."""
Kept = TypeVar("Kept")


class Embedding:
    """A matrix (rows, C) in its file, which stays open; rows are read as float32."""

    def __init__(self, library: Library, entry: Entry) -> None:
        """Raises MissingInput and BadModel."""
        self._library, self._entry = library, entry
        file = open_model_file(entry.file)
        self._descriptor = file.fileno()
        finalize(self, file.close)

    def rows(self, indices: NDArray[np.int64]) -> Floats:
        """The rows (N,) of these indices, (N, C). Raises MissingInput and BadModel."""
        count, width = self._entry.shape
        if len(indices) and not 0 <= indices.min() <= indices.max() < count:
            raise IndexError(f"a token is not below {count}")
        found = np.empty((len(indices), width), np.float32)
        read_rows(self._library, self._descriptor, self._entry, indices, width, found)
        return found


class CPUWeights:
    """All weights of one GPT-2, with matrices of `kind`, and the structures that hold them."""

    def __init__(
        self,
        library: Library,
        model: str,
        checked: CheckedCheckpoint,
        dtype: str,
        threads: int,
        free: Callable[[], object] = lambda: None,
    ) -> None:
        """dtype: of `STORED`. `model`: its name in the cache of int8 weights. `free`: see `Packer`.

        Raises MissingInput and BadModel for files that cannot be read.
        """
        assert checked.gpt2 is not None
        self.config: GPT2Config = checked.gpt2
        self._kept: list[Any] = []  # what the structures point to
        self.wte = Embedding(library, checked.tensors["wte.weight"])
        with StoredTensors(library, checked).opened() as source:
            self.wpe = source.floats("wpe.weight")
            packer = Packer(library, source, threads, free)
            self.notices: tuple[str, ...] = ()
            if dtype == "int8":
                from gptcli.engines.gpt2.on_cpu.int8_weights import int8_matrices

                matrices, self.notices = int8_matrices(model, checked, packer)
            else:
                matrices = packer.matrices(matrix_names(checked), STORED[dtype])
            self.struct = self._model(source, matrices)

    def _model(self, source: StoredTensors, matrices: Mapping[str, PackedMatrix]) -> ModelStruct:
        config = self.config
        self._layers = (LayerStruct * config.n_layer)(
            *(self._layer(source, matrices, number) for number in range(config.n_layer))
        )
        name = "wte.weight" if config.tie_word_embeddings else "lm_head.weight"
        return ModelStruct(
            self._layers,
            self._norm(source, "ln_f."),
            self._keep(matrices[name]).struct,
            *(config.n_layer, config.n_embd, config.inner, config.n_head),
            ACTIVATIONS[config.activation_function],
            config.layer_norm_epsilon,
        )

    def _layer(
        self, source: StoredTensors, matrices: Mapping[str, PackedMatrix], number: int
    ) -> LayerStruct:
        prefix = f"h.{number}."

        def matrix(name: str) -> MatrixStruct:
            bias = source.floats(f"{prefix}{name}.bias")
            return self._keep(matrices[f"{prefix}{name}.weight"].with_bias(bias)).struct

        return LayerStruct(
            self._norm(source, prefix + "ln_1."),
            self._norm(source, prefix + "ln_2."),
            matrix("attn.c_attn"),
            matrix("attn.c_proj"),
            matrix("mlp.c_fc"),
            matrix("mlp.c_proj"),
            self.config.attention_scale(number),
        )

    def _norm(self, source: StoredTensors, prefix: str) -> NormStruct:
        parts = [self._keep(source.floats(prefix + part)) for part in ("weight", "bias")]
        return NormStruct(*map(address, parts))

    def _keep(self, part: Kept) -> Kept:
        self._kept.append(part)
        return part
