"""Which files belong to a model that a program of training left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptcli.checkpoints.training_files import (
    LLMC_MAGIC,
    TrainingFiles,
    llmc_files,
    tensorflow_files,
    torch_files,
)
from gptcli.errors import UsageError


def make(folder: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def shown(found: TrainingFiles | None, folder: Path) -> list[str]:
    assert found is not None
    return [file.relative_to(folder).as_posix() for file in found.files]


def bundle(*names: str) -> list[str]:
    return [f"{name}{end}" for name in names for end in (".index", ".data-00000-of-00001", ".meta")]


def test_a_published_model_of_openai_has_its_files_beside_it(tmp_path: Path) -> None:
    make(tmp_path, *bundle("model.ckpt"), "checkpoint", "hparams.json", "encoder.json", "vocab.bpe")
    wanted = ["model.ckpt.index", "model.ckpt.data-00000-of-00001"]
    wanted += ["hparams.json", "encoder.json", "vocab.bpe"]
    for path in (tmp_path, tmp_path / "model.ckpt.index", tmp_path / "model.ckpt"):
        assert shown(tensorflow_files(path, None), tmp_path) == wanted


def test_of_a_run_the_latest_is_taken_or_the_step_that_is_asked_for(tmp_path: Path) -> None:
    run = tmp_path / "checkpoint" / "run1"
    make(run, *bundle("model-100", "model-20", "model-9"), "counter")
    make(tmp_path / "models", "124M/hparams.json", "124M/encoder.json", "355M/hparams.json")

    def taken(step: int | None = None) -> int | None:
        found = tensorflow_files(run, step)
        return found.step if found else None

    assert taken() == 100
    for path in ('"model-20"', '"/content/checkpoint/run1/model-20"', '"C:\\\\run1\\\\model-20"'):
        (run / "checkpoint").write_text(f"model_checkpoint_path: {path}\nall: x\n", "utf-8")
        assert taken() == 20
    (run / "checkpoint").write_bytes(b'model_checkpoint_path: "model-7"\n')
    assert (taken(), taken(9)) == (100, 9)
    wanted = ["checkpoint/run1/model-9.index", "checkpoint/run1/model-9.data-00000-of-00001"]
    wanted += ["models/124M/hparams.json", "models/355M/hparams.json", "models/124M/encoder.json"]
    assert shown(tensorflow_files(run, 9), tmp_path) == wanted
    with pytest.raises(UsageError, match="no step 21") as error:
        taken(21)
    assert error.value.hint == "There are: 9, 20, 100."


def test_a_folder_without_a_whole_bundle_is_none(tmp_path: Path) -> None:
    make(tmp_path, "model.ckpt.index", "a.index", "model.ckpt.meta", "x.data-1-of-2")
    assert tensorflow_files(tmp_path, None) is None
    assert tensorflow_files(tmp_path / "model.ckpt", None) is None
    assert tensorflow_files(tmp_path / "nothing", None) is None


def test_a_checkpoint_of_nanogpt_has_the_characters_of_its_data_set(tmp_path: Path) -> None:
    make(tmp_path, "out/ckpt.pt", "out/config.json", "out/x.pt", "data/a/meta.pkl", "data/b/x")
    wanted = ["out/ckpt.pt", "out/config.json", "data/a/meta.pkl"]
    for path in (tmp_path / "out", tmp_path / "out" / "ckpt.pt"):
        assert shown(torch_files(path), tmp_path) == wanted
    (tmp_path / "out/ckpt.pt").unlink()
    assert shown(torch_files(tmp_path / "out"), tmp_path)[0] == "out/x.pt"
    make(tmp_path, "trainer/optimizer.pt", "trainer/rng_state_0.pth")  # of transformers
    assert torch_files(tmp_path / "trainer") is None
    make(tmp_path, "out/y.ckpt")
    assert torch_files(tmp_path / "out") is None  # which of them?
    assert shown(torch_files(tmp_path / "out/y.ckpt"), tmp_path)[0] == "out/y.ckpt"


def test_a_model_of_llmc_is_known_by_its_beginning(tmp_path: Path) -> None:
    make(tmp_path, "log/model_00000100.bin", "log/model_00000020.bin", data=LLMC_MAGIC + b"x")
    make(tmp_path, "log/state_00000100_00000.bin", "gpt2_tokenizer.bin", "log/short.bin")
    assert shown(llmc_files(tmp_path / "log", None), tmp_path) == [
        "log/model_00000100.bin",
        "gpt2_tokenizer.bin",
    ]
    found = llmc_files(tmp_path / "log", 20)
    assert found is not None
    assert (found.step, found.files[0].name) == (20, "model_00000020.bin")
    make(tmp_path, "gpt2_124M.bin", data=LLMC_MAGIC)
    make(tmp_path, "gpt2_124M_debug_state.bin")
    assert shown(llmc_files(tmp_path / "gpt2_124M.bin", None), tmp_path) == [
        "gpt2_124M.bin",
        "gpt2_124M_debug_state.bin",
        "gpt2_tokenizer.bin",
    ]
    assert llmc_files(tmp_path / "gpt2_tokenizer.bin", None) is None
