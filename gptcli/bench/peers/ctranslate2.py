"""CTranslate2, a C++ engine for Transformer models, on a checkpoint converted by its own converter.

Static batches, whose rows all run as long as the longest: it takes one length for a call. Prompts
are forwarded at once (`include_prompt_in_result=False`), as its documentation advises for speed.
Its converter makes a model folder; our tokenizer is put beside it. CTranslate2 4.8 has one
attention scale and one epsilon, whatever the configuration says, so a GPT-2 that differs is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from gptcli.bench.peers.peer import PeerSetting, PeerWork, cut, static_batches
from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import inspect
from gptcli.errors import BadModel

EPSILON = 1e-5  # of every layer norm
COLD = """
import sys
import ctranslate2
from tokenizers import Tokenizer
folder, prompt, dtype, device, threads = sys.argv[1:]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
model = ctranslate2.Generator(
    folder, device, compute_type=dtype, inter_threads=1, intra_threads=int(threads)
)
[out] = model.generate_batch(
    [tokenizer.encode(prompt).tokens], max_length=1, include_prompt_in_result=False
)
print(tokenizer.decode(out.sequences_ids[0]))
"""


class CTranslate2:
    """See `gptcli.bench.peers.peer.Peer`."""

    modules: ClassVar[tuple[str, ...]] = ("ctranslate2", "transformers")
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "int8", "int16", "bfloat16", "float16")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    cold: ClassVar[str] = COLD

    def __init__(self, setting: PeerSetting) -> None:
        import ctranslate2
        from tokenizers import Tokenizer

        self._slots = setting.slots
        self._tokenizer: Any = Tokenizer.from_file(str(setting.folder / "tokenizer.json"))
        self._model: Any = ctranslate2.Generator(
            str(setting.folder),
            setting.device,
            compute_type=setting.dtype,
            inter_threads=1,
            intra_threads=setting.threads,
        )

    @staticmethod
    def prepare(checkpoint: Path, folder: Path, dtype: str) -> None:
        """Convert and quantize.

        Raises BadModel for a GPT-2 that it would compute otherwise, and what the converter raises,
        which knows few architectures.
        """
        fault = unlike(inspect(checkpoint).gpt2)
        if fault:
            raise BadModel("CTranslate2", f"it ignores {fault}", "Leave it out")
        from ctranslate2.converters import TransformersConverter

        from gptcli.checkpoints.tokenization.loading import load_tokenizer
        from gptcli.engines.hf_loading import quiet

        with quiet():
            converter = TransformersConverter(str(checkpoint))
            converter.convert(str(folder), quantization=dtype, force=True)
        load_tokenizer(checkpoint).raw.save(str(folder / "tokenizer.json"))

    def write(self, work: Sequence[PeerWork]) -> list[list[int]]:
        """See `gptcli.bench.peers.peer.Peer.write`."""
        return [row for batch in static_batches(work, self._slots) for row in self._batch(batch)]

    def _batch(self, work: Sequence[PeerWork]) -> list[list[int]]:
        longest = max(item.new_tokens for item in work)
        found = self._model.generate_batch(
            [self._tokenizer.encode(item.prompt).tokens for item in work],
            max_length=longest,
            min_length=longest,
            beam_size=1,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return cut([row.sequences_ids[0] for row in found], work)


def unlike(config: GPT2Config | None) -> str:
    """The setting of a GPT-2 that CTranslate2 ignores; empty where there is none."""
    if config is None:  # of another architecture nothing is known
        return ""
    if config.scale_attn_by_inverse_layer_idx:
        return "scale_attn_by_inverse_layer_idx"
    if not config.scale_attn_weights:
        return "scale_attn_weights false"
    if config.layer_norm_epsilon != EPSILON:
        return f"layer_norm_epsilon {config.layer_norm_epsilon:g}"
    return ""
