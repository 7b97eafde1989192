"""Count tokens as a model would, without loading it: for `--dry-run`.

Only the tokenizer and config.json are read, from the disk. torch is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gptcli.checkpoints.adapters.opened import inspect_adapted
from gptcli.checkpoints.config_json import context_of
from gptcli.checkpoints.resolve import resolve
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.options import Load
from gptcli.protocol import ModelInfo

DEFAULT_CONTEXT_TOKENS = 2048  # of a model whose config.json names no context


@dataclass(frozen=True)
class TokenCounter:
    """The tokenizer and the description of a model that is not loaded."""

    info: ModelInfo
    tokenizer: Tokenizer

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self.tokenizer.encode(text))


def open_token_counter(load: Load) -> TokenCounter:
    """The counter of a model on this disk; nothing is downloaded.

    Raises as `resolve`; Unavailable for a model that is not in the cache.
    """
    checkpoint = resolve(replace(load, offline=True))
    checked, adapted = inspect_adapted(*checkpoint.parts)
    if checked.gpt2 is not None:
        context = checked.gpt2.n_positions
    else:
        context = context_of(checked.config) or DEFAULT_CONTEXT_TOKENS
    tokenizer = load_tokenizer(adapted.tokenizer_folder or checkpoint.folder)
    info = ModelInfo(
        name=checkpoint.title,
        revision=checkpoint.revision,
        architecture=checked.model_type,
        context=context,
        vocabulary=checked.gpt2.vocab_size if checked.gpt2 else 0,
        parameters=checked.gpt2.parameters if checked.gpt2 else 0,
        dtype=load.dtype,
        device=load.device,
        notices=checkpoint.notices + checked.notices_beside(tokenizer.roles.ends),
        folder=checkpoint.folder,
        adapted=adapted,
    )
    return TokenCounter(info, tokenizer)
