"""`gptcli models convert` from and to every format, as a user meets it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tf_bundles
from support.cached_models import files_of, own_cache, put
from support.foreign_files import JSON, random_tensors, write_flax, write_preset
from support.gguf_files import GgufFile
from support.hostile_files import llmc, mlx, nanogpt
from support.linear_gpt2 import state

from gptcli.checkpoints.formats.locked.readers.ggml.header import read_gguf_header
from gptcli.checkpoints.formats.writers.tensors import float32
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.sources import command, find_source, foreign, recognise, refusal
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel, MissingInput, UsageError

Cli = Callable[..., tuple[int, str, str]]
Make = Callable[[Path], Path]
COMMAND = re.compile(r"gptcli (models convert .*)")


def gguf(folder: Path) -> Path:
    (folder / "my model.gguf").write_bytes(GgufFile().bytes())
    return folder / "my model.gguf"


def gguf_folder(folder: Path) -> Path:
    return gguf(folder).parent


def tensorflow(folder: Path) -> Path:
    """gpt-2-simple's folder of runs."""
    tf_bundles.write(folder / "run1", tf_bundles.gpt2(), name="model-7")
    return folder


def bundle(folder: Path) -> Path:
    """A bundle by the name that TensorFlow knows, which is no file."""
    tf_bundles.write(folder, tf_bundles.gpt2())
    return folder / "model.ckpt"


def flax(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(JSON))
    write_flax(folder / "flax_model.msgpack", random_tensors())
    return folder


def keras(folder: Path) -> Path:
    write_preset(folder, random_tensors())
    (folder / "metadata.json").write_text("{}")
    return folder


def llm_c(folder: Path) -> Path:
    return llmc.model(folder / "gpt2_124M.bin")


def npz(folder: Path) -> Path:
    mlx.folder_of(folder, mlx.turned(mlx.VALUES), name="weights.npz")
    return folder


def nano(folder: Path) -> Path:
    return nanogpt.saved(folder, state())


FORMATS: dict[str, tuple[Make, str]] = {
    "GGUF": (gguf, "a GGUF model"),
    "a folder with GGUF": (gguf_folder, "a GGUF model"),
    "runs of TensorFlow": (tensorflow, "a GPT-2 for TensorFlow 1"),
    "a bundle": (bundle, "a GPT-2 for TensorFlow 1"),
    "Flax": (flax, "a Flax model"),
    "Keras Hub": (keras, "a preset of Keras Hub"),
    "llm.c": (llm_c, "a model of llm.c"),
    "MLX": (npz, "an MLX model"),
    "nanoGPT": (nano, "a checkpoint of a training program for PyTorch"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_refusal_says_what_it_is_and_how_to_convert_it(name: str, tmp_path: Path) -> None:
    make, kind = FORMATS[name]
    folder = tmp_path / "it's ünïcode & more"
    folder.mkdir()
    path = make(folder)
    error = refusal(path)
    assert error is not None
    assert kind in error.why
    told = COMMAND.search(error.hint)
    assert told is not None
    words = shlex.split(told[1])
    assert words[2] == str(path)
    assert find_source(Path(words[2])) == recognise(path)
    assert ("-o" in words) == (name != "Flax")


@pytest.mark.parametrize("name", ["GGUF", "runs of TensorFlow", "a bundle", "Flax"])
def test_the_command_of_a_refusal_works(
    name: str, tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("~ an odd 名前")
    folder.mkdir()
    path = FORMATS[name][0](folder)
    given = f"./{path}/" if path.is_dir() else f"./{path}"
    code, _, err = main_in("generate", "-m", given, "hello")
    assert code == 65
    told = COMMAND.search(err)
    assert told is not None
    code, out, err = main_in(*shlex.split(told[1]))
    assert code == 0, err
    assert inspect(Path(out.strip())).gpt2 is not None


def test_a_link_and_a_path_below_home_are_followed(
    tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    path = bundle(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    for given in ("~/real/model.ckpt", str(tmp_path / "link" / "model.ckpt.index")):
        code, out, _ = main_in("models", "info", given, "--json")
        told = json.loads(out)
        assert (code, told["layers"], told["context"]) == (0, 2, 12)
    assert main_in("models", "convert", "~/link", "-o", "~/made", "-q")[0] == 0
    assert inspect(tmp_path / "made").gpt2 is not None
    assert path.with_suffix(".ckpt.index").exists()


def test_several_runs_are_named(tmp_path: Path) -> None:
    for run in ("run1", "run2"):
        tf_bundles.write(tmp_path / run, tf_bundles.gpt2())
    with pytest.raises(BadModel, match="2 models for TensorFlow: run1, run2") as caught:
        find_source(tmp_path)
    assert f"gptcli models convert {tmp_path}/run1 -o run1-converted" in caught.value.hint


def test_a_folder_of_an_aliass_name_is_converted(
    tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle(Path("124M"))
    assert main_in("models", "convert", "124M", "-o", "made")[1] == "made\n"


def test_odd_names_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = gguf(Path()).rename("-x.gguf")
    found = recognise(path)
    assert found is not None
    assert command(path, found) == "gptcli models convert ./-x.gguf -o ./-x-converted"
    found = recognise(Path())
    assert found is not None
    assert command(Path(), found) == f"gptcli models convert . -o {tmp_path.name}-converted"


def test_a_model_of_ours_stays_one_whatever_lies_beside_it(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny, folder)
    assert foreign(folder) is None
    (folder / "weights.npz").write_bytes(b"")
    (folder / "flax_model.msgpack").write_bytes(b"")
    assert foreign(folder) is None


def test_what_was_converted_in_place_names_its_folder(tmp_path: Path) -> None:
    flax(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    error = refusal(tmp_path / "flax_model.msgpack")
    assert error is not None
    assert f"use -m {tmp_path}" in error.hint


def test_in_the_cache_the_command_has_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    error = refusal(flax(tmp_path))
    assert error is not None
    assert " -o " in error.hint


def test_nothing_there_is_missing(tmp_path: Path) -> None:
    for name in ("none", "none.gguf", "none.keras", "pytorch_model.bin", "model.ckpt"):
        assert recognise(tmp_path / name) is None
    from gptcli.checkpoints.resolve import resolve
    from gptcli.options import Load

    with pytest.raises(MissingInput):
        resolve(Load(model=str(tmp_path / "none.gguf")))


# What is known before


@pytest.mark.parametrize("name", ["GGUF", "Keras Hub", "MLX"])
def test_what_headers_say_is_told(name: str, tmp_path: Path, main_in: Cli) -> None:
    path = FORMATS[name][0](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = main_in("models", "info", str(path), "--json")
    told = json.loads(out)
    source = find_source(path)
    assert code == 0
    assert FORMATS[name][1] in told["format"]
    assert all(told[key] > 0 for key in ("context", "layers", "width", "heads", "vocabulary"))
    assert told["parameters"]["total"] > 1000
    assert told["bytes"] == sum(file.stat().st_size for file in source.files)
    assert told["command"] == command(path, source)
    assert told["error"] is None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_file_is_told_with_what_is_known(tmp_path: Path, main_in: Cli) -> None:
    path = gguf(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    code, out, _ = main_in("models", "info", str(path))
    assert code == 0
    assert "a GGUF model, for llama.cpp" in out
    assert re.search(r"usable +unsafe model file", out)


# Written for other programs


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp and CTranslate2 are as if they were not installed."""
    monkeypatch.setattr("gptcli.checkpoints.formats.writers.proof._installed", lambda _: False)


@pytest.mark.usefixtures("no_peers")
def test_a_model_of_ours_becomes_a_gguf_file(tiny: Path, tmp_path: Path, main_in: Cli) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf, see gptcli[formats]")
    place = tmp_path / "new" / "x.gguf"
    code, out, err = main_in("models", "convert", str(tiny), "-o", str(place), "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["path"], told["format"], told["type"]) == (str(place), "gguf", "f16")
    assert told["comparison"] is None
    assert "not run there" in err
    metadata = read_gguf_header(place).metadata
    assert metadata["general.name"] == tiny.name
    assert [file.name for file in place.parent.iterdir()] == ["x.gguf"]
    assert main_in("models", "convert", str(tiny), "-o", str(place))[0] == 73
    again = ("models", "convert", str(tiny), "-o", str(place), "--force", "--type", "q8_0", "-q")
    first = place.read_bytes()
    assert main_in(*again)[:2] == (0, f"{place}\n")
    assert place.read_bytes() != first
    assert main_in("models", "convert", str(tiny), "-o", str(place), "--force")[0] == 0
    assert place.read_bytes() == first  # the same bytes each time


@pytest.mark.usefixtures("no_peers")
def test_a_model_of_the_cache_is_written_under_its_name(
    tiny: Path, tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf, see gptcli[formats]")
    cache = own_cache(tmp_path, monkeypatch)
    put(cache, "someone/small-one", files_of(tiny))
    place = tmp_path / "x.gguf"
    assert main_in("models", "convert", "someone/small-one", "-o", str(place))[0] == 0
    assert read_gguf_header(place).metadata["general.name"] == "small-one"


@pytest.mark.usefixtures("no_peers")
def test_another_programs_file_is_converted_on_the_way(tmp_path: Path, main_in: Cli) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf, see gptcli[formats]")
    source = gguf(tmp_path)
    place = tmp_path / "f32.gguf"
    code, out, _ = main_in(
        "models", "convert", str(source), "-o", str(place), "--type", "f32", "--json"
    )
    told = json.loads(out)
    assert code == 0
    assert told["source"] == "a GGUF model, for llama.cpp"
    assert told["self_check"]["loss_nats"] > 0
    one, other = read_gguf_header(source).tensors, read_gguf_header(place).tensors
    assert {name: one[name].shape for name in one} == {name: other[name].shape for name in other}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f32.gguf", "my model.gguf"]


def test_a_source_without_a_tokenizer_is_told_what_works(tmp_path: Path, main_in: Cli) -> None:
    pytest.importorskip("gguf", reason="GGUF files need gguf, see gptcli[formats]")
    path = llm_c(tmp_path)
    code, _, err = main_in("models", "convert", str(path), "-o", str(tmp_path / "x.gguf"))
    assert code == 65
    assert "gguf needs a tokenizer" in err
    assert "copy its tokenizer into the new folder" in err
    assert ".gptcli-convert" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["gpt2_124M.bin"]


def test_nothing_takes_the_place_of_what_it_is_made_of(
    tiny: Path, tmp_path: Path, main_in: Cli
) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    (tmp_path / "keras").mkdir()
    preset = keras(tmp_path / "keras")
    file = gguf(tmp_path)
    for source, place, more in (
        (own, own, ("--to", "ctranslate2")),
        (preset, preset, ()),
        (preset, preset, ("--to", "ctranslate2")),
        (file, file, ()),
    ):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        code, _, err = main_in("models", "convert", str(source), "-o", str(place), "--force", *more)
        assert code == 2, err
        assert before == {path: path.read_bytes() for path in before}


def test_a_model_of_ours_is_no_source_of_safetensors(tiny: Path, main_in: Cli) -> None:
    code, _, err = main_in("models", "convert", str(tiny), "-o", "x")
    assert code == 65
    assert "--to gguf or --to ctranslate2" in err
    code, _, err = main_in("models", "convert", str(tiny), "-o", "x.gguf", "--step", "3")
    assert code == 2
    assert "has no steps" in err


def test_verify_compares_all_that_was_made(tmp_path: Path, main_in: Cli) -> None:
    made = tmp_path / "made"
    assert main_in("models", "convert", str(gguf(tmp_path)), "-o", str(made), "-q")[0] == 0
    assert main_in("models", "verify", str(made))[0] == 0
    text = (made / "config.json").read_text()
    (made / "config.json").write_text(text.replace("gelu_new", "gelu"))
    code, out, _ = main_in("models", "verify", str(made))
    assert code == 65
    assert "config.json: wrong: its content was changed" in out
    (made / "config.json").write_text(text)
    (made / "README.md").write_text("mine")
    assert main_in("models", "verify", str(made))[0] == 69


def test_the_record_names_every_tensor(tmp_path: Path, main_in: Cli) -> None:
    source, made = gguf(tmp_path), tmp_path / "made"
    assert main_in("models", "convert", str(source), "-o", str(made), "-q")[0] == 0
    record: dict[str, Any] = json.loads((made / "conversion.json").read_text())
    assert record["files"][source.name]["bytes"] == source.stat().st_size
    tensors = inspect(made).tensors
    assert record["tensors"].keys() == tensors.keys()
    from hashlib import sha256

    for name, entry in tensors.items():
        digest = sha256(np.ascontiguousarray(float32(entry)).tobytes()).hexdigest()
        assert record["tensors"][name]["sha256"] == digest
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    ("to", "package", "most"), [("gguf", "llama_cpp", 0.05), ("ctranslate2", "ctranslate2", 2)]
)
def test_the_other_program_proves_what_was_written(
    to: str, package: str, most: float, tales: Path, tmp_path: Path, main_in: Cli
) -> None:
    pytest.importorskip(package, reason=f"the proof needs {package}, see gptcli[bench]")
    pytest.importorskip("gguf", reason="GGUF files need gguf, see gptcli[formats]")
    code, out, err = main_in(
        "models", "convert", "tiny-tales", "--to", to, "-o", str(tmp_path / "x"), "--json"
    )
    assert code == 0
    told = json.loads(out)["comparison"]
    assert told["largest_difference"] < most
    assert "log-probabilities of" in err
    if to == "ctranslate2":
        assert load_tokenizer(tmp_path / "x").encode("a king") == load_tokenizer(tales).encode(
            "a king"
        )


def test_a_step_that_is_not_there_is_named(tmp_path: Path) -> None:
    tensorflow(tmp_path)
    assert find_source(tmp_path, 7).options == {"step": 7}
    with pytest.raises(UsageError, match="there is no step 8"):
        find_source(tmp_path, 8)
