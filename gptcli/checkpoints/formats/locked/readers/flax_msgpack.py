"""flax_model.msgpack: the weights of a GPT-2 that transformers 4 wrote with Flax.

Flax's Conv1D keeps its kernel as (out, in): the other way round than torch's. The kernel of a head
of its own is (in, out), where torch has (out, in). Not here: MessagePack is in `containers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gptcli.checkpoints.formats.locked.readers import transformers4
from gptcli.checkpoints.formats.locked.readers.containers.msgpack import Stored, arrays
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import transposed
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source, SourceTensor

FORMAT = "Flax (transformers 4)"
IN_BLOCK = r"ln_1|ln_2|attn/c_attn|attn/c_proj|mlp/c_fc|mlp/c_proj"
TENSOR = re.compile(
    rf"(?:params/)?(?:transformer/)?(?:h/(?P<layer>[0-9]{{1,4}})/(?P<block>{IN_BLOCK})"
    r"|(?P<outside>wte|wpe|ln_f|lm_head))/(?P<kind>kernel|embedding|scale|bias)"
)
KINDS = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}


def read(job: Job) -> Source:
    """The tensors of flax_model.msgpack, or of its shards. Raises Refused."""
    found: dict[str, Stored] = {}
    for file in transformers4.of_files(job, ".msgpack"):
        for name, array in arrays(file).items():
            if name in found:
                raise Refused(f"{file.name}: {name} stands in {found[name].file.name}, too")
            found[name] = array
    left_out = {name: why for name in found if (why := transformers4.other_part(name))}
    used = {name: array for name, array in found.items() if name not in left_out}
    transformers4.refuse_unknown([name for name in used if not TENSOR.fullmatch(name)])
    tensors = transformers4.by_name(_tensors(used))
    left_out.update(transformers4.settle_head(tensors, transformers4.is_tied(job)))
    return Source(format=FORMAT, tensors=tuple(tensors.values()), left_out=left_out)


def _tensors(used: Mapping[str, Stored]) -> Iterator[SourceTensor]:
    for origin, array in used.items():
        found = TENSOR.fullmatch(origin)
        assert found is not None
        if found["outside"]:
            place = found["outside"]
        else:
            place = f"h.{int(found['layer'])}.{found['block'].replace('/', '.')}"
        name = f"{place}.{KINDS[found['kind']]}"
        tensor = transformers4.tensor(name, origin, array.dtype, array.shape, array.read)
        yield transposed(tensor) if found["kind"] == "kernel" else tensor
