"""transformers' own `generate`, static batches padded on the left.

Every row of a batch runs as long as the longest: that is how `generate` works. Nothing is
converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from gptcli.bench.peers.peer import PeerSetting, PeerWork, cut, static_batches
from gptcli.options import Load

COLD = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt, dtype, device, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
inputs = tokenizer(prompt, return_tensors="pt").to(device)
end = tokenizer.eos_token_id
out = model.generate(**inputs, max_new_tokens=1, do_sample=False, pad_token_id=end)
print(tokenizer.decode(out[0]))
"""


class Transformers:
    """See `gptcli.bench.peers.peer.Peer`; torch gets our threads."""

    modules: ClassVar[tuple[str, ...]] = ("transformers",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16", "float16")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    cold: ClassVar[str] = COLD

    def __init__(self, setting: PeerSetting) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from gptcli.engines.hf_loading import quiet
        from gptcli.engines.placement import import_torch

        import_torch(Load(threads=setting.threads))
        self._slots, self._device = setting.slots, setting.device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(setting.folder, padding_side="left")
        self._tokenizer.pad_token = self._tokenizer.eos_token
        with quiet():
            factory: Any = AutoModelForCausalLM
            model = factory.from_pretrained(setting.folder, dtype=setting.dtype)
        self._model: Any = model.to(setting.device)

    @staticmethod
    def prepare(checkpoint: Path, folder: Path, dtype: str) -> None:
        """Nothing: it reads the checkpoint."""

    def write(self, work: Sequence[PeerWork]) -> list[list[int]]:
        """See `gptcli.bench.peers.peer.Peer.write`."""
        return [row for batch in static_batches(work, self._slots) for row in self._batch(batch)]

    def score(self, texts: Sequence[str]) -> list[float]:
        """The log-probability of each text as a document, in static batches padded on the right."""
        self._model.requires_grad_(False)
        begin = self._tokenizer.bos_token or self._tokenizer.eos_token
        found: list[float] = []
        for start in range(0, len(texts), self._slots):
            batch = [begin + text for text in texts[start : start + self._slots]]
            inputs = self._tokenizer(
                batch, return_tensors="pt", padding=True, padding_side="right"
            ).to(self._device)
            ids, mask = inputs["input_ids"][:, 1:, None], inputs["attention_mask"][:, 1:]
            table = self._model(**inputs).logits[:, :-1].float().log_softmax(-1)
            found += (table.gather(2, ids)[..., 0] * mask).sum(1).tolist()
        return found

    def _batch(self, work: Sequence[PeerWork]) -> list[list[int]]:
        longest = max(item.new_tokens for item in work)
        texts = [item.prompt for item in work]
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True).to(self._device)
        out = self._model.generate(
            **inputs,
            max_new_tokens=longest,
            min_new_tokens=longest,
            do_sample=False,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        return cut(out[:, inputs["input_ids"].shape[1] :].tolist(), work)
