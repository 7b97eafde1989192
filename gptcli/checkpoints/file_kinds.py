"""Files that are whole, but not what their place asks for: say what they are.

A git-lfs pointer or a saved web page stands where the real file should be; a folder may hold a
model of another program. "Corrupt" would send people to download the same file again, so each kind
is named, with a way that works. Only names, sizes and first bytes are looked at.
"""

from __future__ import annotations

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
    """Files of another program: the patterns that all have a file, and what to do with them."""

    needed: tuple[str, ...]
    name: str
    hint: str


def _export(program: str) -> str:
    return f"{program} made it from a transformers model: get that one, or choose another with -m"


CONVERT = (
    "Convert it: gptcli models convert FOLDER -o NEW; what is on the Hub comes to a folder with hf"
    " download"
)
KINDS = (
    _Kind(("model.bin", "vocabulary.*"), "a CTranslate2 model", _export("CTranslate2")),
    _Kind(("model.bin", "shared_vocabulary.*"), "a CTranslate2 model", _export("CTranslate2")),
    _Kind(("*.gguf",), "a GGUF model, for llama.cpp", _export("llama.cpp")),
    _Kind(("ggml-*.bin",), "a GGML model, for llama.cpp", _export("llama.cpp")),
    _Kind(("*.onnx",), "an ONNX model", _export("ONNX export")),
    _Kind(("openvino_model.xml",), "an OpenVINO model", _export("OpenVINO")),
    _Kind(("*.mlpackage",), "a Core ML model", _export("Core ML export")),
    _Kind(("*.mlmodel",), "a Core ML model", _export("Core ML export")),
    _Kind(("*.tflite",), "a TensorFlow Lite model", _export("TensorFlow Lite")),
    _Kind(("weights.npz",), "an MLX model", _export("MLX")),
    _Kind(
        ("adapter_config.json",),
        "an adapter (LoRA), not a whole model",
        "Merge it into its base model: peft's merge_and_unload, then save_pretrained",
    ),
    _Kind(("tf_model.h5",), "a TensorFlow model of transformers", CONVERT),
    _Kind(("flax_model.msgpack",), "a Flax model of transformers", CONVERT),
    _Kind(("*.ckpt.index",), "a GPT-2 for TensorFlow 1, as OpenAI published it", CONVERT),
    _Kind(("rust_model.ot",), "a rust-bert model", _export("rust-bert")),
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
    return foreign_files("foreign model", "the folder", names)


def foreign_files(what: str, where: str, names: Iterable[str]) -> BadModel | None:
    """The error for files of another program, by their names; `where` says what holds them."""
    known = sorted(names)
    for kind in KINDS:
        if all(any(fnmatch(name, pattern) for name in known) for pattern in kind.needed):
            return BadModel(what, f"{where} holds {kind.name}", kind.hint)
    return None


def quantized_model(config: Mapping[str, object], folder: Path) -> BadModel | None:
    """The error for weights that MLX or AutoGPTQ quantized; None for any others.

    Not here: `quantization_config` is refused in `gptcli.checkpoints.config_json`.
    """
    if isinstance(config.get("quantization"), dict):
        return _foreign("an MLX model, with quantized weights", _export("MLX"))
    if (folder / "quantize_config.json").exists():
        return _foreign("a GPTQ model, with quantized weights", _export("GPTQ"))
    return None


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
            "foreign tokenizer",
            "tokenizer.json holds settings of MidiTok, whose tokens are MIDI notes, not text",
            "Use it with MidiTok and transformers, or choose another model with -m",
        )


def _foreign(name: str, hint: str) -> BadModel:
    return BadModel("foreign model", f"the folder holds {name}", hint)
