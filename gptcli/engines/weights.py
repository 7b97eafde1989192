"""safetensors -> the weights of a GPT-2 on a device, in a dtype.

In float32 on a CPU nothing is copied at first: tensors are views of the mapped files, so that the
first token costs little more than reading the pages, and GPT-2's Conv1D matrices, (in, out),
already suit a one-row product. While the model decodes, `Weights.pack_next` turns one matrix after
the other into oneDNN's blocked layout, whose kernels are up to 4 times as fast for a few rows, and
gives the mapped pages back: memory holds the weights once. Headers were checked by
`gptcli.preflight`.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.architecture import GPT2Config
from gptcli.preflight import Manifest
from gptcli.preflight import Tensor as Entry

STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
# oneDNN lays a matrix out for a number of rows; this layout is near the best from 1 to 512 of them.
PACK_ROWS = 16


class MappedFile:
    """A safetensors file in memory, read page by page as its tensors are touched."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # Private and writable, as torch.frombuffer wants it; nothing ever writes to it.
            self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, entry: Entry) -> Tensor:
        """A view of one tensor, in its stored dtype and shape."""
        dtype = STORED[entry.dtype]
        source: mmap.mmap | bytearray = self._pages
        offset = entry.offset
        if offset % dtype.itemsize:  # legal, but torch reads aligned numbers only
            source, offset = bytearray(self._pages[offset : offset + entry.nbytes]), 0
        count = entry.nbytes // dtype.itemsize
        return torch.frombuffer(source, dtype=dtype, count=count, offset=offset).view(entry.shape)

    def drop(self, entry: Entry) -> None:
        """Give the tensor's pages back to the system; they are read again if touched."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        start = -(-entry.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (entry.offset + entry.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            self._pages.madvise(mmap.MADV_DONTNEED, start, end - start)


class Linear:
    """`y = x @ weight.T + bias`, before and after packing.

    weight: (out, in), any strides; bias: (out,) or None.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, release: Callable[[], None] = lambda: None
    ) -> None:
        self._weight: Tensor | None = weight
        self._bias = bias
        self._release = release
        self._packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x: (N, in) -> (N, out)."""
        if self._packed is None:
            assert self._weight is not None
            return F.linear(x, self._weight, self._bias)
        product = torch.ops.mkldnn._linear_pointwise
        return product(x, self._packed, self._bias, "none", [], "")  # type: ignore[no-any-return]

    def pack(self) -> None:
        """Move the weight into oneDNN's blocked layout; the original is let go."""
        assert self._weight is not None
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, PACK_ROWS)
        self._weight = None
        self._release()


@dataclass(frozen=True)
class Norm:
    """A layer norm's gain and shift, (C,) each."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Block:
    """One transformer layer."""

    ln_1: Norm
    attn: Linear  # C -> 3C: queries, keys, values
    attn_out: Linear  # C -> C
    ln_2: Norm
    fc: Linear  # C -> inner
    proj: Linear  # inner -> C

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The block's matrices."""
        return self.attn, self.attn_out, self.fc, self.proj


class Weights:
    """All weights of one GPT-2.

    wte: (vocab, C) in its stored dtype on a CPU; wpe: (n_positions, C); head: C -> vocab.
    """

    def __init__(
        self, config: GPT2Config, manifest: Manifest, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self._manifest = manifest
        files = {entry.file for entry in manifest.tensors.values()}
        self._files = {path: MappedFile(path) for path in files}
        self.wte = self._stored("wte.weight")
        if device.type != "cpu":
            self.wte = self._placed(self.wte)
        self.wpe = self._placed(self._stored("wpe.weight"))
        self.blocks = [self._block(f"h.{layer}.") for layer in range(config.n_layer)]
        self.ln_f = self._norm("ln_f.")
        if config.tie_word_embeddings:
            self.head = self._linear(self._placed(self.wte), None, "wte.weight")
        else:
            weight = self._placed(self._stored("lm_head.weight"))
            self.head = self._linear(weight, None, "lm_head.weight")
        packs = device.type == "cpu" and dtype == torch.float32 and _onednn_packs()
        units = [(self.head,), *(b.linears for b in self.blocks)] if packs else []
        self._unpacked: deque[tuple[Linear, ...]] = deque(units)

    def pack_next(self) -> None:
        """Pack the head, then one block a call, so that no token waits for all of them."""
        if self._unpacked:
            for linear in self._unpacked.popleft():
                linear.pack()

    def _block(self, prefix: str) -> Block:
        return Block(
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

    def _conv1d(self, prefix: str) -> Linear:
        weight = self._placed(self._stored(prefix + "weight")).t()  # stored as (in, out)
        if self.dtype != torch.float32:
            weight = weight.contiguous()  # 16-bit kernels read rows of (out, in)
        bias = self._placed(self._stored(prefix + "bias"))
        return self._linear(weight, bias, prefix + "weight")

    def _linear(self, weight: Tensor, bias: Tensor | None, name: str) -> Linear:
        entry = self._manifest.tensors[name]
        return Linear(weight, bias, lambda: self._files[entry.file].drop(entry))

    def _stored(self, name: str) -> Tensor:
        entry = self._manifest.tensors[name]
        return self._files[entry.file].tensor(entry)

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype)


def _onednn_packs() -> bool:
    """Whether this build of torch has oneDNN's packed product for float32 (x86 Linux has)."""
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.zeros(1, 1), PACK_ROWS)
        torch.ops.mkldnn._linear_pointwise(torch.zeros(1, 1), weight, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return True
