"""`gptcli models convert`: the same tensors come out, and nothing in a pickle ever runs."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from support.cached_models import put
from support.commands import REAL, environment, run, start

from gptcli.checkpoints.formats import conversion, process
from gptcli.checkpoints.formats.locked import program, writing
from gptcli.checkpoints.formats.locked.readers import pickles
from gptcli.checkpoints.formats.locked.source import Job, Refused
from gptcli.checkpoints.integrity.digests import digest
from gptcli.checkpoints.integrity.noted import noted
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.safetensors_headers import NOTE
from gptcli.checkpoints.sources import find_source
from gptcli.errors import BadModel, CannotCreate, MissingInput, UsageError

Cli = Callable[..., tuple[int, str, str]]
State = dict[str, torch.Tensor]
BIN, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
LOCKED = """
import json, os, sys
from pathlib import Path
from gptcli.checkpoints.formats.locked import confinement
from gptcli.checkpoints.formats.locked.source import Refused
folder = Path(sys.argv[1])
import ctypes, shutil, socket, subprocess, pickle, tempfile, urllib.request
confinement.watch([folder])
def refused(action):
    try:
        action()
    except (Refused, PermissionError):
        return True
    return False
tries = {
    "a socket": lambda: socket.socket().connect(("127.0.0.1", 9)),
    "a name": lambda: socket.getaddrinfo("localhost", 80),
    "a page": lambda: urllib.request.urlopen("http://127.0.0.1:9"),
    "a process": lambda: subprocess.run(["true"]),
    "a shell": lambda: os.system("true"),
    "a fork": lambda: os.fork() or os._exit(0),
    "another program": lambda: os.execv("/bin/true", ["true"]),
    "a signal": lambda: os.kill(os.getpid(), 0),
    "a library": lambda: ctypes.CDLL("libc.so.6"),
    "a secret": lambda: open("/etc/passwd"),
    "a file to write": lambda: open(folder / "new", "w"),
    "a descriptor to write": lambda: os.open(folder / "new", os.O_WRONLY | os.O_CREAT),
    "to remove": lambda: os.remove(folder / "file"),
    "to rename": lambda: os.rename(folder / "file", folder / "other"),
    "to link": lambda: os.symlink("a", folder / "b"),
    "to remove all": lambda: shutil.rmtree(folder),
    "a real unpickler": lambda: pickle.loads(b"cos\\nsystem\\n."),
}
result = {name: refused(action) for name, action in tries.items()}
result["a file of the model"] = not refused(lambda: open(folder / "file").close())
print(json.dumps(result))
"""
CONNECT = """
import os, socket, sys
from gptcli.checkpoints.formats.locked import confinement
confinement.leave_the_network()
if os.readlink("/proc/self/ns/net") == sys.argv[2]:
    sys.exit(7)
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
except OSError:
    sys.exit(0)
sys.exit(1)
"""


class Evil:
    """Writes a file when it is unpickled by an unpickler that does as it is told."""

    def __init__(self, canary: Path, how: str = "system") -> None:
        self.canary, self.how = canary, how

    def __reduce__(self) -> tuple[Any, ...]:
        if self.how == "system":
            return os.system, (f"touch '{self.canary}'",)
        if self.how == "eval":
            return builtins.eval, (f"open({str(self.canary)!r}, 'w')",)
        return builtins.open, (str(self.canary), "w")


@pytest.fixture
def state(tiny: Path) -> State:
    """A tiny GPT-2's tensors as transformers once saved them: the head is the embedding."""
    tensors = load_file(tiny / "model.safetensors")
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"]}


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A model's folder without weights."""
    made = tmp_path / "model"
    made.mkdir()
    for file in tiny.iterdir():
        if file.suffix == ".json":
            (made / file.name).write_bytes(file.read_bytes())
    return made


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "fired"


def expected(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}


def assert_equal(file: Path, wanted: State) -> None:
    found = load_file(file)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def written(tmp_path: Path, tensors: State, tied: bool = False) -> dict[str, torch.Tensor]:
    """Tensors through a pickle and our writer, without the process around them."""
    torch.save(tensors, tmp_path / BIN)
    job = Job(folder=tmp_path, files=(tmp_path / BIN,), options={"tied": tied})
    with (tmp_path / "model.safetensors").open("wb") as file:
        writing.write(file, pickles.read(job).tensors)
    return load_file(tmp_path / "model.safetensors")


# --- what comes out


def test_a_pickled_model_becomes_safetensors(
    folder: Path, state: State, main_in: Cli, tmp_path: Path
) -> None:
    torch.save(state, folder / BIN)
    code, out, err = main_in("models", "convert", str(folder))
    assert (code, out) == (0, f"{folder}\n")
    assert "lm_head.weight left out: it is the embedding" in err
    assert_equal(folder / "model.safetensors", expected(state))
    assert inspect(folder).gpt2 is not None
    names = {file.name for file in folder.iterdir()}
    made = {"model.safetensors", NOTE, conversion.RECORD}
    assert names == made | {BIN, *(name for name in names if name.endswith("json"))}
    umask = os.umask(0)
    os.umask(umask)
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
    # It is not made again unless that is asked for.
    assert main_in("models", "convert", str(folder))[0] == 73


def test_shards_in_both_formats_become_one_file_in_a_new_folder(
    folder: Path, state: State, main_in: Cli, tmp_path: Path
) -> None:
    names = list(state)
    parts = {"pytorch_model-1.bin": names[:9], "pytorch_model-2.bin": names[9:]}
    places = {}
    for zipped, (file, held) in enumerate(parts.items()):
        shard = {name: state[name].clone() for name in held}
        torch.save(shard, folder / file, _use_new_zipfile_serialization=bool(zipped))
        places |= dict.fromkeys(held, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    before = {file.name for file in folder.iterdir()}
    output = tmp_path / "new" / "model"
    code, out, _ = main_in("models", "convert", str(folder), "-o", str(output), "--json")
    assert code == 0
    made = json.loads(out)
    assert (made["path"], made["tensors"]) == (str(output), len(state))
    assert_equal(output / "model.safetensors", state)
    assert inspect(output).gpt2 is not None
    assert (output / "tokenizer.json").exists()
    assert {file.name for file in folder.iterdir()} == before
    assert [file.name for file in output.parent.iterdir()] == ["model"]


def test_a_vocabulary_of_any_kind_goes_along(
    folder: Path, state: State, main_in: Cli, tmp_path: Path
) -> None:
    torch.save(state, folder / BIN)
    (folder / "tokenizer.json").unlink()
    for name in ("vocab.txt", "tokenizer_config.json", "added_tokens.json", "notes.txt"):
        (folder / name).write_text("{}")
    assert main_in("models", "convert", str(folder), "-o", str(tmp_path / "new"))[0] == 0
    made = {file.name for file in (tmp_path / "new").iterdir()}
    assert {"vocab.txt", "tokenizer_config.json", "added_tokens.json"} <= made
    assert not {"notes.txt", BIN} & made


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    ],
)
def test_every_kind_of_number_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    found = written(tmp_path, {"a": tensor, "b": tensor.mT, "c": tensor[0, 0, 0], "d": tensor[:0]})
    for name, wanted in {
        "a": tensor,
        "b": tensor.mT,
        "c": tensor[0, 0, 0],
        "d": tensor[:0],
    }.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], wanted), name


def test_tensors_that_share_memory_come_out_whole(tmp_path: Path) -> None:
    whole = torch.arange(20.0)
    parts = {"whole": whole, "first": whole[:10], "last": whole[10:].view(2, 5), "odd": whole[1::2]}
    found = written(tmp_path, parts, tied=True)
    assert found.keys() == parts.keys()
    for name, wanted in parts.items():
        assert torch.equal(found[name], wanted), name


def test_a_head_is_left_out_only_where_it_is_tied(tmp_path: Path) -> None:
    wte = torch.rand(4, 3)
    both = {"lm_head.weight": wte, "transformer.wte.weight": wte}
    assert written(tmp_path, both, tied=True).keys() == {"transformer.wte.weight"}
    assert written(tmp_path, both, tied=False).keys() == both.keys()
    apart = both | {"lm_head.weight": wte.clone()}
    assert written(tmp_path, apart, tied=True).keys() == both.keys()
    assert written(tmp_path, {"lm_head.weight": wte}, tied=True).keys() == {"lm_head.weight"}


# --- what is refused


def bombs(canary: Path, state: State) -> dict[str, Callable[[Path], object]]:
    """Ways to write a file that is no checkpoint, by name."""

    def raw(value: object) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(pickle.dumps(value))

    def tar(path: Path) -> None:
        inner = path.with_suffix(".pickle")
        inner.write_bytes(pickle.dumps(Evil(canary)))
        with tarfile.open(path, "w") as archive:
            for name in ("storages", "tensors", "pickle"):
                archive.add(inner, name)

    def saved(value: object, zipped: bool = True) -> Callable[[Path], object]:
        return lambda path: torch.save(value, path, _use_new_zipfile_serialization=zipped)

    return {
        "zip": saved({**state, "x": Evil(canary)}),
        "legacy": saved({**state, "x": Evil(canary)}, zipped=False),
        "raw": raw(Evil(canary)),
        "tar": tar,
        "eval": saved({"x": Evil(canary, "eval")}),
        "open": saved({"x": Evil(canary, "open")}, zipped=False),
        "key": saved({Evil(canary): state["lm_head.weight"]}),
        "deep": saved({"a": [{"b": (Evil(canary),)}]}),
        "list": saved([state["lm_head.weight"]]),
        "number": saved({"a": 3}),
        "nested": saved({"state_dict": state}),
        "nothing": saved({}),
        "sparse": saved({"a": torch.eye(3).to_sparse()}),
        "complex": saved({"a": torch.zeros(3, dtype=torch.complex64)}),
        "expanded": saved({"a": torch.zeros(1).expand(10**9)}),
        "number for a name": saved({3: torch.zeros(1)}),
        "metadata": saved({"__metadata__": torch.zeros(1)}),
        "module": saved({"a": torch.nn.Linear(2, 2)}),
        "empty": lambda path: path.write_bytes(b""),
        "text": lambda path: path.write_text("hello"),
        "half a zip": lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 50),
    }


KINDS = tuple(bombs(Path("x"), {"lm_head.weight": torch.zeros(1)}))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_tensors_is_refused_and_nothing_runs(
    tmp_path: Path, canary: Path, state: State, kind: str
) -> None:
    file = tmp_path / BIN
    bombs(canary, state)[kind](file)
    with pytest.raises(Refused) as caught:
        program.check(pickles.read(Job(folder=tmp_path, files=(file,))))
    said = str(caught.value)
    assert "\n" not in said
    assert "weights_only" not in said
    assert not canary.exists()


def test_the_canary_would_fire_in_an_open_reader(tmp_path: Path, canary: Path) -> None:
    torch.save({"x": Evil(canary)}, tmp_path / BIN)
    torch.load(tmp_path / BIN, weights_only=False)
    assert canary.exists()


def test_a_malicious_pickle_ends_in_65(
    folder: Path, state: State, canary: Path, main_in: Cli
) -> None:
    torch.save({**state, "x": Evil(canary)}, folder / BIN)
    before = {file.name for file in folder.iterdir()}
    code, out, err = main_in("models", "convert", str(folder))
    assert (code, out) == (65, "")
    assert f"{BIN}: it asks for posix.system, which makes no tensor" in err
    assert not canary.exists()
    assert {file.name for file in folder.iterdir()} == before


def test_weights_that_do_not_fit_their_configuration_are_not_put_in_place(
    folder: Path, tmp_path: Path, state: State
) -> None:
    torch.save({"transformer.wte.weight": state["lm_head.weight"]}, folder / BIN)
    (tmp_path / "staging").mkdir()
    with pytest.raises(BadModel, match="missing tensors"):
        conversion.convert(find_source(folder), tmp_path / "staging")


@pytest.mark.parametrize(
    "shard", ["../a.bin", "/a.bin", "a.pkl", "sub/a.bin", 3, "a\n.bin", [], {}]
)
def test_an_index_cannot_name_other_files(folder: Path, shard: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": shard}}))
    with pytest.raises(BadModel, match=r"is not a \.bin beside it"):
        find_source(folder)


def test_a_name_that_no_file_can_have_is_missing(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": "x" * 300 + ".bin"}}))
    with pytest.raises(MissingInput, match="name"):
        find_source(folder)


def test_a_folder_without_a_pickle_has_nothing_to_convert(tiny: Path, main_in: Cli) -> None:
    code, _, err = main_in("models", "convert", str(tiny), "-o", "new")
    assert code == 65
    assert "nothing to convert" in err
    assert "safetensors already" in err


def test_a_pipe_in_place_of_the_pickle_is_refused(folder: Path) -> None:
    os.mkfifo(folder / BIN)
    with pytest.raises(BadModel, match="not a regular file"):
        find_source(folder)


def test_nothing_is_written_into_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = put(tmp_path / "hub", "someone/model", {"config.json": b"{}", BIN: b"x"})
    with pytest.raises(UsageError, match="in the cache"):
        conversion.check_target(find_source(snapshot), None, True)
    assert (
        conversion.check_target(find_source(snapshot), str(tmp_path / "new"), False)
        == tmp_path / "new"
    )


def test_what_is_there_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (folder / BIN).write_bytes(b"x")
    source = find_source(folder)
    (folder / "model.safetensors").write_bytes(b"x")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for output in (None, str(folder), str(tmp_path / "file")):
        with pytest.raises(CannotCreate):
            conversion.check_target(source, output, False)
    for output in (None, str(folder)):
        assert conversion.check_target(source, output, True) == folder
    assert conversion.check_target(source, str(tmp_path / "empty"), False) == tmp_path / "empty"
    with pytest.raises(CannotCreate):
        conversion.check_target(source, str(tmp_path / "file"), True)


# --- the process


def test_the_process_can_do_nothing_but_read_the_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run([sys.executable, "-c", LOCKED], str(tmp_path))
    found = json.loads(done.stdout)
    assert [name for name, held in found.items() if not held] == []
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has network namespaces")
def test_the_process_has_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, own = str(server.getsockname()[1]), str(Path("/proc/self/ns/net").readlink())
        done = run([sys.executable, "-c", CONNECT], port, own)
    if done.returncode == 7:
        pytest.skip("this system lets no process leave its network")
    assert done.returncode == 0, done.stderr


def test_the_process_is_told_no_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "program.py"
    other.write_text(
        "import json, os, sys\n"
        "print(json.dumps({'texts': sorted(os.environ), 'format': sys.stdin.read()}))"
    )
    monkeypatch.setattr(process, "PROGRAM", other)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (folder / BIN).write_bytes(b"x")
    answer = process.run(tmp_path / "out", find_source(folder), {})
    assert set(answer["texts"]) <= {*process.NEEDED, *process.SETTINGS, "LC_CTYPE"}
    assert answer["format"] == ""


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of signal 11"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "took too long"),
        ("import sys; sys.exit(3)", "ended with 3"),
        ("print('no json')", "ended with 0"),
        ('print(\'{"error": "so", "errno": null}\')', "so"),
    ],
)
def test_whatever_becomes_of_the_process_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, why: str
) -> None:
    (tmp_path / "program.py").write_text(code)
    monkeypatch.setattr(process, "PROGRAM", tmp_path / "program.py")
    (folder / BIN).write_bytes(b"x")
    with pytest.raises(BadModel, match=why):
        process.run(tmp_path / "out", find_source(folder), {})


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE"])
@pytest.mark.skipif(sys.platform != "linux", reason="limits differ elsewhere")
def test_the_process_is_limited(name: str) -> None:
    code = (
        "import resource\n"
        "from gptcli.checkpoints.formats.locked import confinement\n"
        "confinement.limit(1000, 1000)\n"
        f"print(resource.getrlimit(resource.{name})[1] != resource.RLIM_INFINITY)"
    )
    done = run([sys.executable, "-c", code])
    assert done.stdout == b"True\n"


def test_a_signal_leaves_nothing_behind(folder: Path, state: State) -> None:
    torch.save(state, folder / BIN)
    before = {file.name for file in folder.iterdir()}
    process = start(REAL, "models", "convert", str(folder))
    deadline = time.monotonic() + 30
    while not list(folder.glob(".gptcli-convert-*/model/model.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    assert {file.name for file in folder.iterdir()} == before
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_refused_weights_name_the_command(folder: Path, state: State, main_in: Cli) -> None:
    torch.save(state, folder / BIN)
    code, _, err = main_in("generate", "Once", "-m", str(folder), "--offline")
    assert code == 65
    assert f"gptcli models convert {folder}" in err


def test_the_program_refuses_what_is_no_tensor_with_one_line_of_json(tmp_path: Path) -> None:
    (tmp_path / BIN).write_bytes(pickle.dumps({}))
    request = {
        "reader": "pickles",
        "folder": str(tmp_path),
        "files": [str(tmp_path / BIN)],
        "output": str(tmp_path / "out"),
        "options": {},
    }
    done = subprocess.run(
        [sys.executable, "-P", program.__file__, json.dumps(request)],
        capture_output=True,
        env=environment(),
        check=False,
    )
    error = f"{BIN}: it is no pickle of tensors"
    assert json.loads(done.stdout) == {"error": error, "errno": None}


def test_refusals_are_one_class() -> None:
    assert program.said(Refused("it is so")) == "it is so"
    assert "memory" in program.said(MemoryError())


def test_damaged_weights_are_noticed_after_a_conversion(
    folder: Path, state: State, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gptcli.checkpoints.integrity.digests.SOUND", {"ext4", "tmpfs", "overlay", "xfs", "btrfs"}
    )
    torch.save(state, folder / BIN)
    assert main_in("models", "convert", str(folder))[0] == 0
    weights = folder / "model.safetensors"
    verdicts = main_in("models", "verify", str(folder), "--json")[1]
    assert {"right", "unknown"} == set(re.findall(r'"verdict": "(.*?)"', verdicts))
    time.sleep(0.12)  # a file that was just written is read each time
    asked = ("generate", "Once", "-m", str(folder), "--max-new-tokens", "1")
    assert "is not what" not in main_in(*asked)[2]
    times = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    code, _, err = main_in(*asked)
    assert (code, "model.safetensors is not what gptcli models convert made" in err) == (0, True)
    code, out, _ = main_in("models", "verify", str(folder), "--json")
    assert (code, "its content was changed" in out) == (65, True)
    noted_then = (folder / NOTE).read_text()
    (folder / NOTE).unlink()  # as whoever changed it does
    assert "is not what" not in main_in(*asked)[2]
    (folder / NOTE).write_text("0" * 64 + "  model.safetensors\n")
    assert main_in("models", "convert", str(folder), "--force")[0] == 0
    assert (folder / NOTE).read_text() == noted_then
    assert noted(folder) == digest(weights)


@pytest.mark.parametrize("text", ["", "x", "\xff" * 99, "0" * 64 + "  other\n", "0" * 5000])
def test_a_strange_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE).write_text(text)
    assert noted(tmp_path) is None
