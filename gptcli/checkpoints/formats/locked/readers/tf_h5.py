"""tf_model.h5: the weights of a GPT-2 that transformers 4 wrote with TensorFlow.

The path of an array is the names of the layers that it lies in, which depend on the class and on
how many models the program had made before: transformer/tfgpt2lm_head_model_1/transformer/h_._0/...
So only its end is looked at. Matrices lie as (in, out), as Conv1D has them; biases have a dimension
of 1 before. Needs h5py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from gptcli.checkpoints.formats.locked.readers import transformers4
from gptcli.checkpoints.formats.locked.readers.containers.hdf5 import Dataset, datasets
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import transposed
from gptcli.checkpoints.formats.locked.source import Job, Source, SourceTensor
from gptcli.checkpoints.head import EMBEDDING, HEAD

LIBRARIES = ("h5py",)  # loaded before the process is locked in
FORMAT = "TensorFlow (transformers 4)"
IN_BLOCK = r"ln_1|ln_2|attn/c_attn|attn/c_proj|mlp/c_fc|mlp/c_proj"
TENSOR = re.compile(
    rf"(?:.*/)?(?:h(?:_\._|/)(?P<layer>[0-9]{{1,4}})/(?P<block>{IN_BLOCK})"
    r"|(?P<outside>wte|wpe|shared|ln_f|lm_head))"
    r"/(?P<kind>weight|embeddings|kernel|bias|gamma|beta)(?::0)?"
)
KINDS = {"embeddings": "weight", "kernel": "weight", "gamma": "weight", "beta": "bias"}


def read(job: Job) -> Source:
    """The tensors of tf_model.h5, or of its shards. Raises Refused, ModuleNotFoundError."""
    arrays = [array for file in transformers4.of_files(job, ".h5") for array in datasets(file)]
    left_out = {
        array.name: why for array in arrays if (why := transformers4.other_part(array.name))
    }
    used = [array for array in arrays if array.name not in left_out]
    transformers4.refuse_unknown([one.name for one in used if not TENSOR.fullmatch(one.name)])
    tensors = transformers4.by_name(_tensors(used))
    tied = transformers4.is_tied(job)
    left_out.update(transformers4.settle_head(tensors, tied))
    notices: tuple[str, ...] = ()
    if not tied and HEAD not in tensors and EMBEDDING in tensors:
        # TensorFlow's GPT-2 has no other head, whatever the configuration says.
        embedding = tensors[EMBEDDING]
        tensors[HEAD] = replace(embedding, name=HEAD)
        notices = ("config.json asks for a head of its own; TensorFlow's GPT-2 has the embedding",)
    return Source(
        format=FORMAT, tensors=tuple(tensors.values()), left_out=left_out, notices=notices
    )


def _tensors(arrays: list[Dataset]) -> Iterator[SourceTensor]:
    for array in arrays:
        found = TENSOR.fullmatch(array.name)
        assert found is not None
        kind = KINDS.get(found["kind"], found["kind"])
        if found["outside"]:
            name = f"{found['outside'].replace('shared', 'wte')}.{kind}"
        else:
            name = f"h.{int(found['layer'])}.{found['block'].replace('/', '.')}.{kind}"
        tensor = transformers4.tensor(name, array.name, array.dtype, array.shape, array.read)
        turned = name == HEAD and found["kind"] == "kernel"
        yield transposed(tensor) if turned else tensor
