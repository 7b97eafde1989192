"""Other ways to run GPT-2, for `gptcli bench --against`: the same prompts, lengths and threads.

A peer is a few lines over a library, written as its own documentation would; it is imported only
when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

COLD_TRANSFORMERS = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
inputs = tokenizer(prompt, return_tensors="pt")
end = tokenizer.eos_token_id
out = model.generate(**inputs, max_new_tokens=1, do_sample=False, pad_token_id=end)
print(tokenizer.decode(out[0]))
"""


@dataclass(frozen=True)
class Work:
    """One prompt, and how many tokens to write after it."""

    prompt: str
    new_tokens: int


class Peer(Protocol):
    """Something else that continues prompts."""

    cold: str  # a Python script: argv is folder, prompt; writes one token

    def write(self, work: Sequence[Work]) -> None:
        """Continue all prompts greedily as one batch, to at least the tokens that each asks for."""
        ...


class Transformers:
    """transformers' `generate` in float32, static batches padded on the left."""

    cold = COLD_TRANSFORMERS

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from gptcli.engines.auto import quiet

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._tokenizer.pad_token = self._tokenizer.eos_token
        with quiet():
            self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")

    def write(self, work: Sequence[Work]) -> None:
        """Every row runs as long as the longest."""
        longest = max(item.new_tokens for item in work)
        texts = [item.prompt for item in work]
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True)
        self._model.generate(
            **inputs,
            max_new_tokens=longest,
            min_new_tokens=longest,
            do_sample=False,
            pad_token_id=self._tokenizer.pad_token_id,
        )


PEERS: dict[str, type[Transformers]] = {"transformers": Transformers}
