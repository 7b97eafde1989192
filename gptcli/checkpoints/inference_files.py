"""The files of models that other programs were made to run: llama.cpp's GGUF, and MLX's folders.

Names decide, and the first bytes of a file whose name says nothing. Of MLX's safetensors the
settings and the names of tensors are looked at: they are named as ours are.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from gptcli.checkpoints.config_json import CONFIG
from gptcli.checkpoints.safetensors_headers import INDEX, SINGLE, read_header, read_index
from gptcli.checkpoints.tokenization.files import names_in, tokenizer_files
from gptcli.errors import BadModel, GptcliError
from gptcli.system.strict_json import open_model_file, read_object

GGUF_MAGIC = b"GGUF"
GGUF_PART = re.compile(r"(?P<name>.+)-(?P<place>\d{5})-of-(?P<count>\d{5})\.gguf")
MLX_WEIGHTS = "weights.npz"
MLX_COMPANIONS = {"generation_config.json", "chat_template.jinja"}
MAX_PARTS, MAX_SHOWN = 1000, 5


def gguf_files(path: Path) -> tuple[Path, ...] | None:
    """The GGUF file at a path, or all parts of the model that it is a part of.

    A folder means the only model in it. Raises BadModel where there are several.
    """
    if not path.is_dir():
        return _parts(path) if path.suffix.lower() == ".gguf" or _begins(path) else None
    files = sorted(file for file in path.glob("*.gguf") if file.is_file())
    firsts = [
        file
        for file in files
        if not (part := GGUF_PART.fullmatch(file.name)) or int(part["place"]) == 1
    ]
    if len(firsts) > 1:
        names = ", ".join(file.name for file in firsts[:MAX_SHOWN])
        why = f"the folder holds {len(firsts)} GGUF models: {names}"
        command = f"gptcli models convert {shlex.quote(str(firsts[0]))} -o NEW-FOLDER"
        raise BadModel("foreign model", why, f"Convert one of them: {command}")
    return _parts((firsts or files)[0]) if files else None


def _parts(file: Path) -> tuple[Path, ...]:
    part = GGUF_PART.fullmatch(file.name)
    if part is None or not 0 < int(part["count"]) < MAX_PARTS:
        return (file,)
    name, count = part["name"], part["count"]
    names = (f"{name}-{place:05}-of-{count}.gguf" for place in range(1, int(count) + 1))
    return tuple(file.with_name(name) for name in names)


def _begins(file: Path) -> bool:
    try:
        with open_model_file(file) as stream:
            return stream.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except GptcliError:
        return False


def mlx_files(folder: Path) -> tuple[Path, ...] | None:
    """config.json, the weights, and what goes along, of a folder of MLX.

    It has weights.npz, or safetensors that are quantised or named as MLX does it.
    """
    config, npz = folder / CONFIG, folder / MLX_WEIGHTS
    if not config.exists():
        return None
    weights = [npz] if npz.exists() else _mlx_safetensors(folder)
    if not weights:
        return None
    names = set(names_in(folder))
    beside = tokenizer_files(names) | (names & MLX_COMPANIONS)
    return (config, *weights, *(folder / name for name in sorted(beside)))


def _mlx_safetensors(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists():
        weights = [folder / SINGLE]
    elif (folder / INDEX).exists():
        weights = [folder / name for name in sorted(set(read_index(folder / INDEX).values()))]
    else:
        return []
    try:
        quantised = isinstance(read_object(folder / CONFIG).get("quantization"), dict)
        named = any(name.startswith("model.h.") for name in read_header(weights[0]))
    except GptcliError:
        return []
    return weights if quantised or named else []
