"""MLX's GPT-2: the same numbers come out, plain and quantised, and no file does harm."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.bounds import refused_soon
from support.hostile_files.mlx import (
    CONFIG,
    HOSTILE,
    VALUES,
    WIDTH,
    Arrays,
    Damage,
    folder_of,
    is_matrix,
    quantised,
    turned,
)
from support.locked_readers import convert, read

from gptcli.checkpoints.formats.locked.readers import mlx
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.preflight import inspect
from gptcli.errors import GptcliError


def result(files: tuple[Path, ...]) -> Arrays:
    made = convert(read(mlx, *files), files[0].parent / "made")
    assert inspect(made).gpt2 is not None
    return load_file(made / "model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "weights.npz"])
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_every_number_comes_out_under_its_name(prefix: str, name: str, tmp_path: Path) -> None:
    found = result(folder_of(tmp_path, turned(VALUES, prefix), name=name))
    assert found.keys() == VALUES.keys()
    assert all(np.array_equal(found[name], value) for name, value in VALUES.items())


def test_matrices_that_lie_as_in_transformers_are_left_so(tmp_path: Path) -> None:
    found = result(folder_of(tmp_path, VALUES, name="weights.npz"))
    assert all(np.array_equal(found[name], value) for name, value in VALUES.items())


def test_packed_arrays_and_arrays_by_columns_are_read(tmp_path: Path) -> None:
    files = folder_of(tmp_path, {}, name="weights.npz")
    np.savez_compressed(
        files[1],
        **{f"model.{name}": v.T if is_matrix(name, v) else v for name, v in VALUES.items()},
    )
    found = result(files)
    assert all(np.array_equal(found[name], value) for name, value in VALUES.items())


def test_bfloat16_that_mlx_writes_into_an_npz_stays_so(tmp_path: Path) -> None:
    half = {name: (v.view("<u4") >> 16).astype("<u2").view("V2") for name, v in VALUES.items()}
    files = folder_of(tmp_path, half, name="weights.npz")
    source = read(mlx, *files)
    assert {tensor.dtype for tensor in source.tensors} == {"BF16"}
    convert(source, tmp_path / "made")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_quantised_numbers_become_float32(bits: int, tmp_path: Path) -> None:
    arrays = turned(VALUES)
    expected = {}
    for name, value in VALUES.items():
        if value.ndim == 2:
            base = "model." + name.removesuffix(".weight")
            group = 32 if value.shape[0] != 4 * WIDTH else 64
            parts, back = quantised(arrays.pop(f"{base}.weight"), bits, group)
            arrays |= {f"{base}.{part}": array for part, array in parts.items()}
            expected[name] = back.T if name.startswith("h.") else back
    files = folder_of(tmp_path, arrays, CONFIG | {"quantization": {"bits": bits, "group_size": 32}})
    source = read(mlx, *files)
    assert source.notices
    found = load_file(convert(source, tmp_path / "made") / "model.safetensors")
    assert all(abs(found[name] - value).max() < 1e-6 for name, value in expected.items())


def test_a_head_of_its_own_stays_and_one_that_is_the_embedding_goes(tmp_path: Path) -> None:
    head = {"lm_head.weight": VALUES["wte.weight"]}
    source = read(mlx, *folder_of(tmp_path, turned(VALUES) | head))
    assert dict(source.left_out) == {"lm_head.weight": "it is model.wte.weight once more"}
    other = {"lm_head.weight": VALUES["wte.weight"] * 2}
    assert "lm_head.weight" in result(folder_of(tmp_path, turned(VALUES) | other))


def test_texts_beside_the_weights_go_along(tmp_path: Path) -> None:
    files = folder_of(tmp_path, turned(VALUES))
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert dict(read(mlx, *files, tmp_path / "tokenizer.json").texts) == {"tokenizer.json": "{}"}


# Hostile files


MOST_BYTES, MOST_SECONDS = 30 * 2**20, 5


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_model_is_refused_soon_and_in_little_memory(
    damage: Damage, tmp_path: Path
) -> None:
    files = damage(tmp_path)
    with refused_soon(MOST_BYTES, MOST_SECONDS, also=GptcliError):
        convert(read(mlx, *files), tmp_path / "made")


@pytest.mark.parametrize("name", ["weights.npz", "model.safetensors"])
def test_weights_with_any_byte_changed_are_read_or_refused(name: str, tmp_path: Path) -> None:
    files = folder_of(tmp_path, turned(VALUES), name=name)
    good = files[1].read_bytes()
    random = np.random.default_rng(5)
    places = [*range(len(good) - 1200, len(good)), *range(1200)]
    for place in random.choice(places, 60):
        data = bytearray(good)
        data[place] = random.integers(0, 256)
        files[1].write_bytes(bytes(data))
        with suppress(Refused, GptcliError):
            for tensor in read(mlx, *files).tensors:
                tensor.read()
