"""GPT-2 for training: packed batches in, the summed loss out.

Parameters have the names and the layout of Hugging Face's GPT2LMHeadModel (Conv1D matrices are (in,
out)), so that a state dict is a checkpoint. A tied head is one parameter, `transformer.wte.weight`.
Radford et al. 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.engines.gpt2.on_torch.network import ACTIVATIONS
from gptcli.training.compute.attention import attention
from gptcli.training.compute.batch import PackedBatch
from gptcli.training.compute.head_loss import head_loss
from gptcli.training.compute.products import product


class Conv1D(nn.Module):
    """x: (T, in) -> (T, out); weight: (in, out), as GPT-2 stores it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)


class Attention(nn.Module):
    """Queries, keys and values of a piece, mixed, and their projection."""

    def __init__(self, config: GPT2Config, layer: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale, self.dropout = config.n_head, config.attention_scale(layer), dropout
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        mixed: Tensor = self.c_proj(
            attention(self.c_attn(x), lengths, self.heads, self.scale, dropout)
        )
        return mixed


class MLP(nn.Module):
    """The two products of a layer with the activation between."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation_function]
        self.c_fc = Conv1D(config.n_embd, config.inner)
        self.c_proj = Conv1D(config.inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return projected


class TrainableLayer(nn.Module):
    """One transformer layer. Dropout acts on what it adds, while it trains."""

    def __init__(self, config: GPT2Config, layer: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer, dropout)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), lengths))
        added: Tensor = x + self.dropout(self.mlp(self.ln_2(x)))
        return added


class Transformer(nn.Module):
    """Everything but the head; the name is that of Hugging Face's prefix."""

    def __init__(self, config: GPT2Config, dropout: float) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(
            TrainableLayer(config, number, dropout) for number in range(config.n_layer)
        )
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(dropout)


class TrainableGPT2(nn.Module):
    """A GPT-2 whose gradient can be taken. With `checkpointing` a layer's activations are computed
    twice in place of kept.
    """

    def __init__(self, config: GPT2Config, dropout: float = 0.0) -> None:
        super().__init__()
        self.config, self.checkpointing = config, False
        self.transformer = Transformer(config, dropout)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """(vocab, C): the embedding where it is tied."""
        own = self.transformer.wte if self.config.tie_word_embeddings else self.lm_head
        return own.weight

    def states(self, batch: PackedBatch) -> Tensor:
        """What goes into the head, (T, C)."""
        body = self.transformer
        x = body.dropout(body.wte(batch.ids) + body.wpe(batch.positions))
        for layer in body.h:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, batch.lengths, use_reentrant=False)
            else:
                x = layer(x, batch.lengths)
        last: Tensor = body.ln_f(x)
        return last

    def forward(self, batch: PackedBatch) -> Tensor:
        """The summed loss of a batch's targets, in nats."""
        return head_loss(self.states(batch), self.head, batch.targets)
