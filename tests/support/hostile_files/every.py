"""All hostile files as a user would name them: each with the path to convert."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py

from support.foreign_files import JSON, random_tensors, write_preset, write_tf
from support.hostile_files import flax, gguf, keras, llmc, mlx, nanogpt, tf_bundle, tf_h5
from support.linear_gpt2 import state

Make = Callable[[Path], Path]
"""(an empty folder) -> what is given to `gptcli models convert`"""


def _gguf(file: gguf.GgufFile | bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / "model.gguf"
        path.write_bytes(file if isinstance(file, bytes) else file.bytes())
        return path

    return make


def _companion(name: str, write: Callable[[Path], object]) -> Make:
    """Weights of transformers beside their config.json."""

    def make(folder: Path) -> Path:
        (folder / "config.json").write_text(json.dumps(JSON), encoding="utf-8")
        write(folder / name)
        return folder

    return make


def _h5(change: tf_h5.Change) -> Make:
    def write(path: Path) -> None:
        write_tf(path, random_tensors())
        with h5py.File(path, "a") as file:
            change(file)

    return _companion("tf_model.h5", write)


def _spoilt(spoil: tf_h5.Spoil) -> Make:
    def write(path: Path) -> None:
        data = bytearray(write_tf(path, random_tensors()).read_bytes())
        spoil(data)
        path.write_bytes(data)

    return _companion("tf_model.h5", write)


def _flax(data: bytes) -> Make:
    return _companion("flax_model.msgpack", lambda path: path.write_bytes(data))


def _mlx(damage: mlx.Damage) -> Make:
    def make(folder: Path) -> Path:
        files = damage(folder)
        for other in set(folder.iterdir()) - set(files):
            other.unlink()
        return folder

    return make


def _bundle(options: dict[str, object]) -> Make:
    def make(folder: Path) -> Path:
        return tf_bundle.hostile(folder, options)[0]

    return make


def _preset(config: object) -> Make:
    def make(folder: Path) -> Path:
        write_preset(folder, random_tensors())
        (folder / "metadata.json").write_text("{}", encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make


def _archive(write: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> Path:
        write(folder / "a.keras")
        return folder / "a.keras"

    return make


def _llmc(changes: dict[str, object]) -> Make:
    return lambda folder: llmc.model(folder / "gpt2_124M.bin", **changes)


def _beside(write: Callable[[Path], Path]) -> Make:
    def make(folder: Path) -> Path:
        made = write(folder / "x")
        tokens = made.read_bytes()[:4] == llmc.header(20240328)[:4]
        made.rename(folder / ("gpt2_tokenizer.bin" if tokens else "gpt2_124M_debug_state.bin"))
        return llmc.model(folder / "gpt2_124M.bin")

    return make


def _nanogpt(changes: dict[str, object]) -> Make:
    return lambda folder: nanogpt.saved(folder, **{"weights": state(), **changes})


HOSTILE: dict[str, Make] = {
    **{f"GGUF: {name}": _gguf(file) for name, file in gguf.HOSTILE.items()},
    **{f"TensorFlow 1: {name}": _bundle(options) for name, options in tf_bundle.HOSTILE.items()},
    **{f"HDF5: {name}": _h5(change) for name, (change, _) in tf_h5.HOSTILE.items()},
    **{f"bytes of HDF5: {name}": _spoilt(spoil) for name, (spoil, _) in tf_h5.SPOILT.items()},
    **{f"Flax: {name}": _flax(data) for name, (data, _) in flax.HOSTILE.items()},
    **{f"MLX: {name}": _mlx(damage) for name, damage in mlx.HOSTILE.items()},
    **{f"Keras: {name}": _preset(config) for name, (config, _) in keras.CONFIGS.items()},
    **{f"Keras' archive: {name}": _archive(write) for name, (write, _) in keras.ARCHIVES.items()},
    **{f"llm.c: {name}": _llmc(changes) for name, changes in llmc.MODELS.items()},
    **{f"beside llm.c: {name}": _beside(write) for name, write in llmc.BESIDE.items()},
    **{f"nanoGPT: {name}": _nanogpt(changes) for name, changes in nanogpt.HOSTILE.items()},
}
