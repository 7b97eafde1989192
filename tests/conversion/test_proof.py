"""A converted model computes what it did before, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support.hostile_files import llmc
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.formats.locked.source import Proof
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.conversion.proof import MOST_COMPARED, log_probabilities, self_check
from gptcli.errors import BadModel

Cli = Callable[..., tuple[int, str, str]]


@torch.no_grad()
def test_the_loss_of_the_probe_is_the_models(tales: Path) -> None:
    found = self_check(inspect(tales), None)
    assert found is not None
    assert found.text is not None
    ids = torch.tensor([load_tokenizer(tales).encode(found.text, bare=True)])
    assert found.tokens == ids.shape[1]
    model = GPT2LMHeadModel.from_pretrained(tales, dtype=torch.float32).eval()
    assert abs(float(model(ids, labels=ids).loss) - found.loss) < 1e-3


def test_without_a_tokenizer_some_ids_are_run(make_tiny: Callable[..., Path]) -> None:
    folder = make_tiny(n_positions=4)
    (folder / "tokenizer.json").unlink()
    found = self_check(inspect(folder), None)
    assert found is not None
    assert (found.text, found.tokens) == (None, 4)
    assert 0 < found.loss < 100


def test_what_is_no_gpt2_is_not_run(tiny: Path) -> None:
    from dataclasses import replace

    assert self_check(replace(inspect(tiny), gpt2=None), None) is None


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(number: float, make_tiny: Callable[..., Path]) -> None:
    folder = make_tiny()
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][3] = number
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadModel, match="not finite"):
        self_check(inspect(folder), None)


def proof_of(folder: Path, rows: int, length: int, error: float = 0.0) -> Proof:
    """What the model itself computes, with an error in the last number."""
    ids = np.random.default_rng(0).integers(0, 512, (rows, length + 1)).tolist()
    run = log_probabilities(inspect(folder))
    told = [[float(run(row[:-1])[place, id]) for place, id in enumerate(row[1:])] for row in ids]
    told[-1][-1] += error
    return Proof(ids=tuple(map(tuple, ids)), logprobs=tuple(map(tuple, told)))


def test_what_the_sources_program_computed_is_compared(tiny: Path) -> None:
    found = self_check(inspect(tiny), proof_of(tiny, 2, 5, error=0.01))
    assert found is not None
    assert found.compared == 10
    assert found.largest == pytest.approx(0.01, abs=1e-4)
    assert found.to_dict()["largest_difference_nats"] == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize("error", [0.1, -0.1, float("nan"), float("inf")])
def test_a_model_that_computes_otherwise_is_refused(error: float, tiny: Path) -> None:
    with pytest.raises(BadModel, match="differs by"):
        self_check(inspect(tiny), proof_of(tiny, 2, 5, error=error))


def test_of_a_long_proof_a_part_is_compared(tiny: Path) -> None:
    row = proof_of(tiny, 1, 60)
    found = self_check(inspect(tiny), Proof(ids=row.ids * 40, logprobs=row.logprobs * 40))
    assert found is not None
    assert MOST_COMPARED - 60 < found.compared <= MOST_COMPARED


def test_llm_c_proves_its_models(tmp_path: Path, main_in: Cli) -> None:
    llmc.model(tmp_path / "gpt2_124M.bin")
    llmc.debug_state(tmp_path / "gpt2_124M_debug_state.bin")
    made = []
    for name in ("one", "two"):
        code, out, err = main_in(
            "models",
            "convert",
            str(tmp_path / "gpt2_124M.bin"),
            "-o",
            str(tmp_path / name),
            "--json",
        )
        assert code == 0
        assert "log-probabilities of 10 tokens differ by at most" in err
        told = json.loads(out)["self_check"]
        assert told["compared_tokens"] == 10
        assert told["largest_difference_nats"] < 1e-4
        record = json.loads((tmp_path / name / "conversion.json").read_text())
        assert record["self_check"] == told
        assert record["made"].keys() == {"config.json", "model.safetensors"}
        made.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert made[0] == made[1]  # the same bytes each time


def test_a_model_that_llm_c_does_not_prove_is_not_put_in_place(
    tmp_path: Path, main_in: Cli
) -> None:
    model = llmc.model(tmp_path / "gpt2_124M.bin")
    llmc.debug_state(tmp_path / "gpt2_124M_debug_state.bin")
    data = bytearray(model.read_bytes())
    data[-40:] = np.full(10, 3, "<f4").tobytes()  # the last norm's bias
    model.write_bytes(data)
    code, out, err = main_in("models", "convert", str(model), "-o", str(tmp_path / "new"))
    assert (code, out) == (65, "")
    assert "a log-probability differs by" in err
    assert not (tmp_path / "new").exists()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
