"""Whether a checkpoint's head is its token embedding, as config.json says.

`tie_word_embeddings` is true unless config.json says otherwise, also for models that were trained
with a head of their own. Where both matrices are stored and differ, transformers 5 keeps both; the
embedding in the head's place would give other probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.system.strict_json import corrupt, open_model_file

HEAD, EMBEDDING = "lm_head.weight", "wte.weight"
CHUNK_BYTES = 2**22  # compared at a time


def untied(config: GPT2Config, found: dict[str, Tensor]) -> tuple[GPT2Config, list[str]]:
    """The configuration with the head that the weights have, and a notice where it is another.

    A head without an embedding becomes that too, in `found`: some writers keep only one of the two.
    Raises BadModel where both are there in two shapes.
    """
    head = found.get(HEAD)
    if not config.tie_word_embeddings or head is None:
        return config, []
    embedding = found.setdefault(EMBEDDING, head)
    if head.shape != embedding.shape:
        raise corrupt(head.file, f"{HEAD} has another shape than {EMBEDDING}")
    if head is embedding or _equal(head, embedding):
        return config, []
    notice = f"{HEAD} differs from {EMBEDDING}, though config.json ties them: both are used"
    return replace(config, tie_word_embeddings=False), [notice]


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bytes; the first difference ends the search."""
    if (one.dtype, one.nbytes) != (other.dtype, other.nbytes):
        return False
    return all(first == second for first, second in zip(_chunks(one), _chunks(other), strict=True))


def _chunks(tensor: Tensor) -> Iterator[bytes]:
    with open_model_file(tensor.file) as stream:
        stream.seek(tensor.offset)
        for start in range(0, tensor.nbytes, CHUNK_BYTES):
            yield stream.read(min(CHUNK_BYTES, tensor.nbytes - start))
