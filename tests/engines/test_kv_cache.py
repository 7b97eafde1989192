"""int8 weights kept on disk: used again, made again if not to be trusted, listed, removed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.weights import needs_kernels

from gptcli import native
from gptcli.checkpoints import int8_store
from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.checkpoints.preflight import inspect
from gptcli.cli.commands import cache as command
from gptcli.cli.output import stderr
from gptcli.engines.gpt2.on_cpu.int8_weights import Found, int8_matrices
from gptcli.engines.gpt2.on_cpu.packing import PackedMatrix, Packer, StoredTensors
from gptcli.native.structures import BLOCK, GROUP

Cli = Callable[..., tuple[int, str, str]]
NAME = "owner/model"
QUAD = 4  # inputs of a block that lie side by side, as in vectors.h
PIECES = {
    "a": StoredTensor("I8", (3, 5), bytes(range(15))),
    "a.scales": StoredTensor("F32", (3,), bytes(12)),
}
EXPECTED = {name: (piece.dtype, piece.shape) for name, piece in PIECES.items()}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own, to be changed."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows by every matrix that is quantized."""
    real, quantized = Packer.matrices, []

    def matrices(packer: Packer, names: dict[str, bool], kind: str) -> dict[str, PackedMatrix]:
        quantized.extend(names)
        return real(packer, names, kind)

    monkeypatch.setattr(Packer, "matrices", matrices)
    return quantized


def opened(folder: Path, name: str = NAME) -> Found:
    """The int8 matrices of a checkpoint, and the notices."""
    library = native.library()
    assert library is not None
    checked = inspect(folder)
    with StoredTensors(library, checked).opened() as source:
        return int8_matrices(name, checked, Packer(library, source, 2))


def file() -> Path:
    """The one file of the cache."""
    (found,) = int8_store.folder().iterdir()
    return found


def assert_equal(one: Found, other: Found) -> None:
    assert one[0].keys() == other[0].keys()
    for name, matrix in one[0].items():
        assert (matrix.kind, matrix.shape) == ("I8", other[0][name].shape)
        assert np.array_equal(matrix.blocks, other[0][name].blocks)
        assert np.array_equal(matrix.scale, other[0][name].scale)


def whole(matrix: PackedMatrix) -> torch.Tensor:
    """The integers of a matrix, (out, in), from blocks of (in / QUAD, BLOCK, QUAD)."""
    out, width = matrix.shape
    quads = -(-width // GROUP) * GROUP // QUAD
    blocks = torch.from_numpy(matrix.blocks).view(-1, quads, BLOCK, QUAD)
    assert not blocks.transpose(1, 2).reshape(-1, quads * QUAD)[:, width:].any()
    return blocks.transpose(1, 2).reshape(-1, quads * QUAD)[:out, :width]


@needs_kernels
def test_weights_are_made_once(model: Path, made: list[str]) -> None:
    first = opened(model)
    assert len(made) == 9  # four in each of two layers, and the head
    assert_equal(opened(model), first)
    assert len(made) == 9


@needs_kernels
def test_making_them_is_said_once(model: Path) -> None:
    assert opened(model)[1] == (
        "made 1 MB of int8 weights for owner/model, to be used again: see gptcli cache",
    )
    assert opened(model)[1] == ()


@needs_kernels
def test_an_untied_head_is_kept_too(make_tiny, made: list[str]) -> None:
    folder = make_tiny(tie_word_embeddings=False)
    first = opened(folder)
    assert "lm_head.weight" in first[0]
    assert "wte.weight" not in first[0]
    assert_equal(opened(folder), first)
    assert len(made) == 9


@needs_kernels
def test_a_file_is_a_safetensors_file_in_the_layout_of_the_kernels(model: Path) -> None:
    matrices, _ = opened(model)
    tensors = load_file(file())
    assert len(tensors) == 2 * len(matrices) + 1  # and the checksums
    for name, matrix in matrices.items():
        assert np.array_equal(tensors[name].numpy(), matrix.blocks)
        assert np.array_equal(tensors[f"{name}.scales"].numpy(), matrix.scale)
    assert tensors["h.1.mlp.c_fc.weight"].shape == (128 * 32,)


@needs_kernels
@pytest.mark.parametrize(
    "changes", [{}, {"n_embd": 36, "n_head": 3, "n_inner": 70, "vocab_size": 517}]
)
def test_an_integer_is_within_half_a_step_of_its_weight(make_tiny, changes: dict[str, int]) -> None:
    folder = make_tiny(**changes)
    stored = load_file(folder / "model.safetensors")
    for name, matrix in [*opened(folder)[0].items(), *opened(folder)[0].items()]:
        weight = stored[f"transformer.{name}"]
        weight = weight if name == "wte.weight" else weight.t()
        integers, scales = whole(matrix), torch.from_numpy(matrix.scale)
        assert integers.shape == weight.shape
        assert integers.abs().amax(1).tolist() == [127] * len(weight)
        assert ((integers * scales[:, None] - weight).abs() <= 0.5001 * scales[:, None]).all()


@needs_kernels
def test_broken_weights_are_not_hidden(model: Path) -> None:
    path = model / "model.safetensors"
    tensors = load_file(path)
    weight = tensors["transformer.h.1.mlp.c_fc.weight"]
    weight[2, 4] = torch.nan
    weight[:, 7] = torch.inf
    weight[:, 9] = 0
    save_file(tensors, path, metadata={"format": "pt"})
    for _ in range(2):  # made, and read
        matrix = opened(model)[0]["h.1.mlp.c_fc.weight"]
        assert np.isnan(matrix.scale).nonzero()[0].tolist() == [4, 7]
        assert matrix.scale[9] == 0
        assert not whole(matrix)[9].any()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lose_the_end_of_a_matrix(path: Path) -> None:
    data = bytearray(path.read_bytes())
    end = len(data) - 512 * 4  # of the last matrix: its scales follow
    data[end - 2000 : end] = bytes(2000)
    path.write_bytes(data)


def put_a_strangers_file(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def put_one_without_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def swap_pages(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + data[8192:12288] + data[4096:8192] + data[12288:])


def put_no_tensors(path: Path) -> None:
    path.write_bytes(b"hello")


@needs_kernels
@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        flip_a_bit,
        swap_pages,
        lose_the_end_of_a_matrix,
        put_a_strangers_file,
        put_one_without_metadata,
        put_no_tensors,
    ],
)
def test_a_damaged_file_is_made_again(
    model: Path, made: list[str], damage: Callable[[Path], None]
) -> None:
    first = opened(model)
    damage(file())
    second = opened(model)
    assert_equal(second, first)
    assert len(made) == 18
    (notice,) = second[1]
    assert notice.startswith("the int8 weights kept for owner/model were damaged (")
    assert notice.endswith("): made 1 MB of them anew, to be used again: see gptcli cache")
    assert_equal(opened(model), first)
    assert len(made) == 18


@needs_kernels
def test_another_layout_is_made_again(
    model: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(model)
    monkeypatch.setattr(int8_store, "LAYOUT", "gptcli-int8-0")
    opened(model)
    assert len(made) == 18


@needs_kernels
def test_changed_weights_are_not_taken_for_the_old_ones(model: Path, made: list[str]) -> None:
    first = opened(model)
    path = model / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.h.0.mlp.c_fc.weight"][0, 0] += 5
    save_file(tensors, path, metadata={"format": "pt"})
    second = opened(model)
    assert len(made) == 18
    one, other = (item[0]["h.0.mlp.c_fc.weight"].blocks for item in (first, second))
    assert not np.array_equal(one, other)


def test_weights_with_the_size_and_time_of_others_are_not_taken_for_them(model: Path) -> None:
    path = model / "model.safetensors"
    times = path.stat().st_mtime_ns
    before = int8_store.digest(inspect(model).tensors.values())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times, times))
    assert int8_store.digest(inspect(model).tensors.values()) != before


def test_a_file_of_the_hubs_cache_is_known_by_its_hash(model: Path) -> None:
    path = model / "model.safetensors"
    blobs = model / "blobs"
    blobs.mkdir()

    def digest(name: str) -> str:
        path.rename(blobs / name) if not path.is_symlink() else path.readlink().rename(blobs / name)
        path.unlink(missing_ok=True)
        path.symlink_to(blobs / name)
        return int8_store.digest(inspect(model).tensors.values())

    first = digest("a" * 64)
    os.utime(blobs / ("a" * 64), (1, 1))
    assert digest("a" * 64) == first
    assert digest("b" * 64) != first


@needs_kernels
def test_two_processes_that_make_the_same_leave_one_whole_file(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from gptcli.engines.placement import open_network; from gptcli.options import Load;"
        "from gptcli.checkpoints.preflight import inspect; sys.stdin.read(1);"
        "print(open_network(Load(dtype='int8'), 'x', inspect(Path(sys.argv[1])), 'cpu')[2])"
    )
    start = [sys.executable, "-c", code, str(model)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(start, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    for process in processes:
        assert b"anew" not in process.communicate(timeout=60)[0]
        assert process.returncode == 0
    assert file().suffix == ".safetensors"
    assert opened(model)[1] == ()


@needs_kernels
def test_a_reader_keeps_what_another_process_removes(model: Path) -> None:
    first = opened(model)
    second = opened(model)
    for entry in int8_store.entries():
        int8_store.remove(entry)
        int8_store.remove(entry)
    assert_equal(second, first)


@needs_kernels
def test_a_file_that_is_removed_before_it_is_read_is_made_again(
    model: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, real = opened(model), int8_store.find

    def find_and_lose(*args) -> object:
        found = real(*args)
        file().unlink()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(int8_store, "find", find_and_lose)
        second = opened(model)
    assert_equal(second, first)
    assert len(made) == 18
    assert "could not be read (no such file or directory): made 1 MB of them" in second[1][0]
    assert_equal(opened(model), first)
    assert len(made) == 18


@needs_kernels
def test_a_full_disk_is_a_notice(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    found = opened(model)
    assert found[1] == (
        "the int8 weights of owner/model are made anew each time: no space left on device",
    )
    assert len(found[0]) == 9
    assert list(int8_store.folder().iterdir()) == []


@needs_kernels
def test_a_nearly_full_disk_is_left_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(model)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert "each time: the disk is nearly full" in opened(model)[1][0]
    assert list(int8_store.folder().iterdir()) == []


@needs_kernels
def test_a_folder_that_cannot_be_made_is_a_notice(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "made anew each time: not a directory" in opened(model)[1][0]


def keep(source: str, used: float, model: str = NAME) -> Path:
    path = int8_store.keep(source, model, PIECES)
    os.utime(path, (used, used))
    return path


def test_the_least_recently_used_go_when_there_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oldest, newest = keep("a", 100), keep("b", 300)
    middle = keep("c", 200)
    monkeypatch.setattr(int8_store, "MAX_CACHE_BYTES", 3 * newest.stat().st_size)
    latest = keep("d", 400)
    assert set(int8_store.folder().iterdir()) == {newest, middle, latest}
    assert not oldest.exists()


def test_the_latest_stays_however_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_store, "MAX_CACHE_BYTES", 1)
    keep("a", 100)
    latest = keep("b", 200)
    assert file() == latest


def test_what_is_found_counts_as_used(monkeypatch: pytest.MonkeyPatch) -> None:
    keep("a", 100)
    assert int8_store.find("a", EXPECTED).keys() == PIECES.keys()
    (entry,) = int8_store.entries()
    assert (datetime.now(UTC) - entry.used).days == 0


def test_parts_of_killed_runs_are_removed_in_time() -> None:
    keep("a", 100)
    old, new = (int8_store.folder() / f"{name}.part" for name in ("old", "new"))
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 2 * int8_store.ABANDONED_SECONDS,) * 2)
    keep("b", 100)
    assert (old.exists(), new.exists()) == (False, True)


def test_the_list_of_nothing(main_in: Cli) -> None:
    code, out, err = main_in("cache")
    assert (code, out) == (0, "")
    assert err == f"gptcli: note: nothing in {int8_store.folder()}\n"


def test_the_list_has_a_line_for_each_model(main_in: Cli) -> None:
    keep("a", datetime(2026, 5, 4, 3, 2).timestamp())
    keep("b", datetime(2026, 5, 4, 3, 3).timestamp(), "a/longer-name")
    code, out, err = main_in("cache", "-q")
    assert (code, err) == (0, "")
    assert out == (
        "a/longer-name  int8  1 MB  2026-05-04 03:03\nowner/model    int8  1 MB  2026-05-04 03:02\n"
    )
    assert main_in("cache", "list", "-q") == (0, out, "")


def test_the_list_as_json_has_these_keys(main_in: Cli) -> None:
    path = keep("a", 100)
    code, out, _ = main_in("cache", "--json")
    assert code == 0
    assert json.loads(out) == [
        {
            "model": NAME,
            "dtype": "int8",
            "bytes": path.stat().st_size,
            "used": "1970-01-01T00:01:40+00:00",
            "path": str(path),
        }
    ]


def test_a_file_that_cannot_be_read_is_listed_and_can_be_removed(main_in: Cli) -> None:
    keep("a", 100).write_bytes(b"\xff" * 9)
    assert main_in("cache", "-q")[1].startswith("(unreadable)  int8")
    assert main_in("cache", "clear", "-y", "(unreadable)")[0] == 0
    assert int8_store.entries() == []


def test_a_hostile_name_is_shown_harmlessly(main_in: Cli) -> None:
    keep("a", 100, "x\x1b[2J\ny")
    out = main_in("cache", "-q")[1]
    assert "\x1b" not in out
    assert out.count("\n") == 1


def test_clear_removes_all(main_in: Cli) -> None:
    keep("a", 100)
    keep("b", 100)
    code, out, err = main_in("cache", "clear", "-y")
    assert (code, out, err) == (0, "", "gptcli: note: removed 2 files, 1 MB\n")
    assert int8_store.entries() == []
    assert main_in("cache", "clear") == (0, "", "")


@pytest.mark.parametrize("name", ["openai-community/gpt2", "gpt2", "124M"])
def test_clear_removes_what_is_named(main_in: Cli, name: str) -> None:
    other = keep("a", 100)
    keep("b", 100, "openai-community/gpt2")
    assert main_in("cache", "clear", "-y", name)[0] == 0
    assert file() == other


def test_clear_of_a_name_that_is_not_there_is_a_usage_error(main_in: Cli) -> None:
    keep("a", 100)
    code, _, err = main_in("cache", "clear", "-y", "other")
    assert code == 2
    assert "no weights of such a model are kept. gptcli cache shows them all." in err
    assert len(int8_store.entries()) == 1


def test_clear_does_not_ask_a_pipe(main_in: Cli) -> None:
    keep("a", 100)
    code, _, err = main_in("cache", "clear", stdin=b"y\n")
    assert code == 2
    assert "standard input is no terminal. Add -y." in err
    assert len(int8_store.entries()) == 1


@pytest.mark.parametrize(("answer", "left"), [(True, 0), (False, 1)])
def test_clear_asks_on_a_terminal(
    main_in: Cli, monkeypatch: pytest.MonkeyPatch, answer: bool, left: int
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    asked = []
    monkeypatch.setattr(stderr, "stdin_bytes", Terminal)
    monkeypatch.setattr(
        command.typer, "confirm", lambda question, err: asked.append(question) or answer
    )
    keep("a", 100)
    assert main_in("cache", "clear")[0] == 0
    assert asked == ["Remove 1 file, 1 MB?"]
    assert len(int8_store.entries()) == left


def test_clear_says_what_it_cannot_remove(main_in: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(entry: int8_store.StoredWeights) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    keep("a", 100)
    monkeypatch.setattr(int8_store, "remove", refused)
    code, _, err = main_in("cache", "clear", "-y")
    assert code == 74
    assert "permission denied" in err
