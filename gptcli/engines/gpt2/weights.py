"""From safetensors to the weights of a GPT-2 on a device, in a data type.

In float32 on a CPU nothing is copied at first: tensors are views of the mapped files, so the first
token costs little more than reading the pages, and GPT-2's Conv1D matrices, (in, out), already suit
a one-row product. While the model decodes, `Weights.pack_next` converts one part after the other to
a faster layout (see `gptcli.engines.gpt2.linear`) and gives the mapped pages back, so memory holds
the weights once. In reduced precision only the kernels change on the way, not the weights, so a
text does not depend on how far packing got (except with `Float16Weights.late`). Where our own
kernels exist, reduced precision and small models are packed from the start. Headers were checked by
`gptcli.checkpoints.preflight`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from gptcli import native
from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines.gpt2.int8 import ActivationBuffers, Int8Linear, to_fbgemm_int8
from gptcli.engines.gpt2.int8_weights import Int8Weights
from gptcli.engines.gpt2.linear import (
    Conversion,
    Linear,
    PlainLinear,
    to_fbgemm_half,
    to_half,
    to_onednn,
)
from gptcli.engines.gpt2.mapped import MappedFile
from gptcli.engines.gpt2.packed_linear import PackedLinear, to_packed

MAX_PACKED_AT_ONCE = 16_000_000  # parameters; fewer are packed in some hundredths of a second
PACK_THREADS = 2  # matrices converted at a time, one thread each


@dataclass(frozen=True)
class Float16Weights:
    """float16 weights, everything else in float32, for an engine with `slots` slots.

    `late`: the first tokens are computed from the checkpoint's own values, until the float16 ones
    are ready. The last bits of a text then depend on what the engine generated before it.
    """

    slots: int
    late: bool = False


class StagedLinear:
    """One matrix of the model: its present kind, and conversions (`stages`) to faster kinds."""

    def __init__(
        self, first: Linear, size: int, stages: tuple[Conversion, ...], release: Callable[[], None]
    ) -> None:
        self.current, self.size = first, size
        self._stages = deque(stages)
        self._release = release

    def __call__(self, x: Tensor) -> Tensor:
        """x: (N, in) -> (N, out)."""
        return self.current(x)

    def advance(self) -> None:
        """Convert to the next kind, and release the memory of the former."""
        former, self.current = self.current, self._stages.popleft()(self.current)
        if self.current is not former:
            self._release()


@dataclass(frozen=True)
class Phase:
    """One conversion of all matrices: one of its `units` a step.

    Starts after `alone` single-row or `several` multi-row steps: the break-even point, since a run
    that has decoded so much will likely decode as much again.
    """

    units: deque[list[StagedLinear]]
    alone: float
    several: float
    threads: int = 1


@dataclass(frozen=True)
class Norm:
    """A layer norm's gain and shift, (C,) each."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Layer:
    """One transformer layer."""

    ln_1: Norm
    attn: StagedLinear  # C -> 3C: queries, keys, values
    attn_out: StagedLinear  # C -> C
    ln_2: Norm
    fc: StagedLinear  # C -> inner
    proj: StagedLinear  # inner -> C

    @property
    def linears(self) -> list[StagedLinear]:
        """The layer's matrices, the largest first."""
        return [self.fc, self.proj, self.attn, self.attn_out]


class Weights:
    """All weights of one GPT-2. `dtype` is that of activations and of the KV cache.

    wte: (vocab, C) in its stored data type on a CPU; wpe: (n_positions, C); head: C -> vocab. The
    matrices are in `dtype` too, or in `reduced` precision: on a CPU, with float32 activations.
    """

    def __init__(
        self,
        config: GPT2Config,
        checked: CheckedCheckpoint,
        device: torch.device,
        dtype: torch.dtype,
        reduced: Float16Weights | Int8Weights | None = None,
        kernels: bool = True,
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self._checked, self._reduced = checked, reduced
        usable = device.type == "cpu" and dtype == torch.float32 and kernels
        self._kernels = usable and native.library() is not None
        files = {entry.file for entry in checked.tensors.values()}
        self._files = {path: MappedFile(path) for path in files}
        self._buffers: dict[int, ActivationBuffers] = {}
        self.wte = self._stored("wte.weight")
        if device.type != "cpu":
            self.wte = self._placed(self.wte)
        self.wpe = self._placed(self._stored("wpe.weight"))
        self.layers = [self._layer(f"h.{number}.") for number in range(config.n_layer)]
        self.ln_f = self._norm("ln_f.")
        self.head = self._head("wte.weight" if config.tie_word_embeddings else "lm_head.weight")
        self._steps = self._several = 0
        if self._kernels and (reduced is not None or config.parameters < MAX_PACKED_AT_ONCE):
            _advance(self._linears, 1)  # the kernels have threads of their own
        elif isinstance(reduced, Float16Weights) and not reduced.late:
            _advance(self._linears, PACK_THREADS)
        self._phases = self._planned()

    @property
    def packed(self) -> bool:
        """Whether all matrices are `PackedLinear`."""
        return all(isinstance(linear.current, PackedLinear) for linear in self._linears)

    @property
    def _linears(self) -> list[StagedLinear]:
        return [self.head, *(linear for layer in self.layers for linear in layer.linears)]

    @property
    def wide(self) -> bool:
        """Whether all conversions are done, so that several rows take little longer than one."""
        return not any(phase.units for phase in self._phases)

    def pack_next(self, rows: int = 2) -> None:
        """Call before each step of `rows` rows: converts one more unit where that pays."""
        self._steps += 1
        self._several += rows > 1
        for phase in self._phases:
            paying = self._steps >= phase.alone or self._several >= phase.several
            if phase.units and paying:
                _advance(phase.units.popleft(), phase.threads)
                return

    def as_stored(self) -> Weights:
        """The same model in float32 and never packed, so that gradients can be taken."""
        return Weights(self.config, self._checked, self.device, torch.float32, kernels=False)

    def _planned(self) -> list[Phase]:
        """The conversions and their break-even points, measured with 124M on two cores."""
        if self.device.type != "cpu" or self.dtype != torch.float32 or self.packed:
            return []
        if isinstance(self._reduced, Int8Weights) and self._kernels:
            return []  # what is not packed by now cannot be
        if isinstance(self._reduced, Int8Weights):
            return [Phase(self._units(), alone=2, several=2, threads=PACK_THREADS)]
        if self._reduced is None and self._kernels:
            return [Phase(self._units(), alone=4, several=1)]
        if self._reduced is None:
            layers = deque(layer.linears for layer in self.layers)
            return [Phase(deque([[self.head]]), 16, 1), Phase(layers, 64, 1)]
        if self._reduced.slots > 1:
            return [Phase(self._units(), alone=4, several=4, threads=PACK_THREADS)]
        # One row at a time gains little by fbgemm's layout: it pays for drafts.
        packing = Phase(self._units(), alone=400, several=8, threads=PACK_THREADS)
        halving = Phase(self._units(), alone=4, several=4, threads=PACK_THREADS)
        return [halving, packing] if self._reduced.late and not self._kernels else [packing]

    def _units(self) -> deque[list[StagedLinear]]:
        """First the head with as many layers as take equally long, then layer by layer."""
        size = sum(linear.size for linear in self.layers[0].linears)
        beside = self.head.size // size
        first = [linear for layer in self.layers[:beside] for linear in layer.linears]
        return deque([[self.head, *first], *(layer.linears for layer in self.layers[beside:])])

    def _layer(self, prefix: str) -> Layer:
        return Layer(
            self._norm(prefix + "ln_1."),
            self._conv1d(prefix + "attn.c_attn."),
            self._conv1d(prefix + "attn.c_proj."),
            self._norm(prefix + "ln_2."),
            self._conv1d(prefix + "mlp.c_fc."),
            self._conv1d(prefix + "mlp.c_proj."),
        )

    def _norm(self, prefix: str) -> Norm:
        weight, bias = self._stored(prefix + "weight"), self._stored(prefix + "bias")
        return Norm(self._placed(weight), self._placed(bias))

    def _conv1d(self, prefix: str) -> StagedLinear:
        bias = self._placed(self._stored(prefix + "bias"))
        name = prefix + "weight"
        if isinstance(self._reduced, Int8Weights):
            return self._integer_linear(name, bias, self._reduced)
        weight = self._placed(self._stored(name)).t()  # stored as (in, out)
        if self.dtype != torch.float32:
            weight = weight.contiguous()  # 16-bit kernels read rows of (out, in)
        return self._linear(weight, bias, name)

    def _head(self, name: str) -> StagedLinear:
        if isinstance(self._reduced, Int8Weights):
            return self._integer_linear(name, None, self._reduced)
        return self._linear(self._placed(self._stored(name)), None, name)

    def _linear(self, weight: Tensor, bias: Tensor | None, name: str) -> StagedLinear:
        entry = self._checked.tensors[name]
        stages: tuple[Conversion, ...] = (to_onednn,)
        if self._kernels:
            stages = (to_packed(to_onednn, bits=32),)
        if isinstance(self._reduced, Float16Weights):
            alone = self._reduced.slots == 1
            halve = to_half(alone, centred=alone and bias is None)
            stages = (to_packed(halve), to_fbgemm_half)
        release = self._files[entry.file].drop
        return StagedLinear(
            PlainLinear(weight, bias), weight.numel(), stages, lambda: release(entry)
        )

    def _integer_linear(
        self, name: str, bias: Tensor | None, integers: Int8Weights
    ) -> StagedLinear:
        matrix = integers.matrices[name]
        width = matrix.values.shape[1]
        buffers = self._buffers.setdefault(width, ActivationBuffers(width))
        product = Int8Linear(matrix, bias, buffers)
        size, release = matrix.values.numel(), integers.release
        return StagedLinear(product, size, (to_packed(to_fbgemm_int8),), lambda: release(name))

    def _stored(self, name: str) -> Tensor:
        entry = self._checked.tensors[name]
        return self._files[entry.file].tensor(entry)

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype)


def _advance(linears: Iterable[StagedLinear], threads: int) -> None:
    """Convert each matrix, `threads` at a time: torch releases the interpreter lock."""
    if threads == 1:
        for linear in linears:
            linear.advance()
        return
    with ThreadPoolExecutor(min(threads, torch.get_num_threads())) as pool:
        list(pool.map(StagedLinear.advance, linears))
