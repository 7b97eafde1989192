"""Files that are whole, but not what their place asks for: say what they are.

A git-lfs pointer or a saved web page stands where the real file should be; a folder may hold a
model of another program. "Corrupt" would send people to download the same file again, so each kind
is named, with a way that works. Only names, sizes and first bytes are looked at.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from gptcli.errors import BadModel, MissingInput
from gptcli.system.strict_json import open_model_file, placeholder, read_object

HEAD_BYTES = 512  # of a file that are looked at
MAX_TOKENIZER_BYTES = 2**27  # of a tokenizer file; the largest in use have about 2^25


@dataclass(frozen=True)
class _Kind:
    """Files of another program: the patterns that all have a file, and what to do with them.

    reader: the module of `gptcli.checkpoints.formats.locked` that converts them; empty where there
    is none, and then `hint` says what works.
    """

    needed: tuple[str, ...]
    name: str
    hint: str = ""
    reader: str = ""


def _export(program: str) -> str:
    return f"{program} made it from a transformers model: get that one, or choose another with -m"


def converting(folder: Path) -> str:
    """The hint for a folder whose model can be converted."""
    return f"Convert it: gptcli models convert {shlex.quote(str(folder))} -o NEW-FOLDER"


KINDS = (
    _Kind(("model.bin", "vocabulary.*"), "a CTranslate2 model", _export("CTranslate2")),
    _Kind(("model.bin", "shared_vocabulary.*"), "a CTranslate2 model", _export("CTranslate2")),
    _Kind(("*.gguf",), "a GGUF model, for llama.cpp", reader="gguf_file"),
    _Kind(("ggml-*.bin",), "a GGML model, for llama.cpp", _export("llama.cpp")),
    _Kind(
        ("*.llamafile",),
        "a llamafile, which has a GGUF model inside",
        "Take it out and convert it: unzip FILE '*.gguf', then gptcli models convert",
    ),
    _Kind(("*.onnx",), "an ONNX model", _export("ONNX export")),
    _Kind(("openvino_model.xml",), "an OpenVINO model", _export("OpenVINO")),
    _Kind(("*.mlpackage",), "a Core ML model", _export("Core ML export")),
    _Kind(("*.mlmodel",), "a Core ML model", _export("Core ML export")),
    _Kind(("*.tflite",), "a TensorFlow Lite model", _export("TensorFlow Lite")),
    _Kind(("mlc-chat-config.json",), "an MLC model", _export("MLC")),
    _Kind(("*.engine",), "a TensorRT engine", _export("TensorRT")),
    _Kind(("weights.npz",), "an MLX model", reader="mlx"),
    _Kind(
        ("adapter_config.json",),
        "an adapter (LoRA), not a whole model",
        "Give it beside its base, -m BASE --adapter FOLDER, or merge it: gptcli models merge",
    ),
    _Kind(("tf_model.h5",), "a TensorFlow model", reader="tf_h5"),
    _Kind(("model.weights.h5", "metadata.json"), "a Keras Hub model", reader="keras_hub"),
    _Kind(("flax_model.msgpack",), "a Flax model", reader="flax_msgpack"),
    _Kind(
        ("*.ckpt*.index",),
        "a TensorFlow checkpoint, as OpenAI published GPT-2",
        reader="tf_bundle",
    ),
    _Kind(("rust_model.ot",), "a rust-bert model", _export("rust-bert")),
    _Kind(
        ("zero_to_fp32.py",),
        "a DeepSpeed checkpoint, in parts",
        "Join them where DeepSpeed is: python zero_to_fp32.py . NEW-FOLDER",
    ),
    _Kind(
        ("*.distcp",),
        "a distributed checkpoint of PyTorch, in parts",
        "Join them with PyTorch: python -m torch.distributed.checkpoint.format_utils dcp_to_torch"
        " FOLDER pytorch_model.bin, then gptcli models convert",
    ),
)


def refuse_placeholder(file: Path) -> None:
    """Raise BadModel where a file is a git-lfs pointer or a saved web page."""
    try:
        with open_model_file(file) as stream:
            head = stream.read(HEAD_BYTES)
    except (BadModel, MissingInput):
        return
    if error := placeholder(file, head):
        raise error


def foreign_model(folder: Path) -> BadModel | None:
    """The error for a folder that holds a model of another program; None for any other folder."""
    try:
        names = [file.name for file in folder.iterdir()]
        names += [f"onnx/{file.name}" for file in folder.glob("onnx/*")]
    except OSError:
        return None
    kind = _kind_of(names)
    return None if kind is None else _foreign(kind.name, kind.hint or converting(folder))


def foreign_files(what: str, where: str, names: Iterable[str]) -> BadModel | None:
    """The error for files of another program, by their names.

    what: what failed, on a Hub the repository's name. where: what holds the files.
    """
    kind = _kind_of(names)
    if kind is None:
        return None
    hint = f"Convert it: hf download {what} --local-dir FOLDER, then gptcli models convert FOLDER"
    return BadModel(what, f"{where} holds {kind.name}", kind.hint or f"{hint} -o NEW-FOLDER")


def _kind_of(names: Iterable[str]) -> _Kind | None:
    known = sorted(names)
    for kind in KINDS:
        if all(any(fnmatch(name, pattern) for name in known) for pattern in kind.needed):
            return kind
    return None


def quantized_model(config: Mapping[str, object], folder: Path) -> BadModel | None:
    """The error for weights that MLX or AutoGPTQ quantized; None for any others.

    Not here: `quantization_config` is refused in `gptcli.checkpoints.config_json`.
    """
    if isinstance(config.get("quantization"), dict):
        return _foreign("an MLX model, with quantized weights", converting(folder))
    if (folder / "quantize_config.json").exists():
        return _foreign("a GPTQ model, with quantized weights", _export("GPTQ"))
    return None


FOREIGN_TOKENIZER = "foreign tokenizer"


def refuse_foreign_tokenizer(folder: Path) -> None:
    """Raise BadModel where tokenizer.json is no tokenizer of the tokenizers library, but MidiTok's.

    Whatever else is wrong with the file is left to the caller.
    """
    try:
        found = read_object(folder / "tokenizer.json", MAX_TOKENIZER_BYTES)
    except (BadModel, MissingInput):
        return
    if "tokenization" in found or "miditok_version" in found:
        raise BadModel(
            FOREIGN_TOKENIZER,
            "tokenizer.json holds settings of MidiTok, whose tokens are MIDI notes, not text",
            "Make ids with MidiTok, and give them: gptcli generate --ids --format ids",
        )


def _foreign(name: str, hint: str) -> BadModel:
    return BadModel("foreign model", f"the folder holds {name}", hint)
