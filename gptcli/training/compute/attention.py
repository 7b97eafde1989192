"""Causal attention within each piece of a packed batch.

Pieces of about one length are computed together: each is padded at its end, where causality hides
the padding from every real token, so no mask is needed and the kernels for plain causal attention
serve. Pieces are sorted by length, so a group is a run of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WASTE = 1.2  # the longest of a group over its shortest, at most


def groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and end of each group of pieces (sorted by length, longest first)."""
    first = 0
    for place, length in enumerate(lengths):
        if lengths[first] > max(length * WASTE, length + 8):
            yield first, place
            first = place
    if lengths:
        yield first, len(lengths)


def attention(
    qkv: Tensor, lengths: Sequence[int], heads: int, scale: float, dropout: float
) -> Tensor:
    """qkv: (T, 3C), queries, keys and values of T tokens -> (T, C)."""
    parts, place = [], 0
    for first, end in groups(lengths):
        own = lengths[first:end]
        rows = qkv[place : place + sum(own)]
        place += sum(own)
        parts.append(_group(rows, own, heads, scale, dropout))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _group(
    rows: Tensor, lengths: Sequence[int], heads: int, scale: float, dropout: float
) -> Tensor:
    count, longest, width = len(lengths), lengths[0], rows.shape[1] // 3
    even = lengths[-1] == longest
    if even:
        padded = rows.view(count, longest, 3, heads, width // heads)
    else:
        split = torch.split(rows, list(lengths))
        padded = torch.nn.utils.rnn.pad_sequence(list(split), batch_first=True)
        padded = padded.view(count, longest, 3, heads, width // heads)
    q, k, v = padded.permute(2, 0, 3, 1, 4).unbind(0)  # (pieces, heads, longest, C / heads)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, dropout_p=dropout)
    mixed = mixed.transpose(1, 2).reshape(count, longest, width)
    if even:
        return mixed.reshape(count * longest, width)
    return torch.cat([row[:length] for row, length in zip(mixed, lengths, strict=True)])
