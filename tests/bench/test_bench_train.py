"""`gptcli bench --only train`: both sides learn the same, and the options that do not fit."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from gptcli.bench import learning, processes, rounds, training
from gptcli.bench.options import DOCUMENTS, ROWS, Bench
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import UsageError


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the measured processes would run is run here: a process imports torch for seconds."""

    def answered(command: Sequence[str], hint: str = "") -> str:
        with contextlib.redirect_stdout(io.StringIO()) as out, torch.random.fork_rng():
            exec(command[-1], {})
        return out.getvalue().strip().split("\n")[-1]

    monkeypatch.setattr(processes, "answer", answered)
    monkeypatch.setattr(rounds, "PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("here")
def test_both_sides_learn_the_same_from_every_target(
    tiny: Path, main_in: Any, tmp_path: Path
) -> None:
    chart = tmp_path / "train.svg"
    told = ("--runs", "1", "--rows", "11", "--json", "--svg", str(chart), "--threads", "1")
    code, out, err = main_in(
        "bench", "-m", str(tiny), "--only", "train", "--against", "transformers", *told
    )
    assert code == 0, err
    speed, memory, loss, apart = map(json.loads, out.splitlines())
    assert speed["name"] == "training, 2 steps of 8 documents"
    assert (speed["unit"], memory["unit"], loss["unit"]) == ("tokens/s", "MB", "nats/token")
    for figure in (speed, memory, loss):
        assert figure["ours"]["median"] > 0
        assert [len(peer["ratios"]) for peer in figure["theirs"]] == [1]
    assert [peer["engine"] for peer in speed["theirs"]] == ["transformers float32"]
    assert apart["ours"]["median"] < 1e-3  # percent: the weights are the same after three steps
    assert "distance of the losses" in chart.read_text()


def test_documents_are_of_mixed_lengths_and_the_same_each_time(tales: Path) -> None:
    tokenizer = load_tokenizer(tales)
    found = learning.documents(tokenizer, 200, 512)
    assert found == learning.documents(tokenizer, 200, 512)
    lengths = sorted(map(len, found))
    assert lengths[0] < 30
    assert 90 < lengths[100] < 135  # the middle of their logarithms
    assert 450 < lengths[-1] <= 512
    assert all(tokenizer.eos_id not in document for document in found)
    assert {len(document) for document in learning.documents(tokenizer, 5, 2)} == {2}


def test_the_loss_of_a_peer_that_fails_has_no_distance() -> None:
    runs = (training.EngineRuns("ours", (2.0,)), training.EngineRuns("theirs"))
    assert list(training._apart(runs)) == []
    runs = (training.EngineRuns("ours", (2.02,)), training.EngineRuns("theirs", (2.0,)))
    [figure] = training._apart(runs)
    assert figure.ours.values == pytest.approx((1.0,))


@pytest.mark.parametrize("name", ["ctranslate2", "transformers:bfloat16", "transformers,llama.cpp"])
def test_only_the_trainer_is_measured_beside_ours(name: str) -> None:
    with pytest.raises(UsageError, match="does not train in float32"):
        Bench(only="train", against=name)


def test_training_has_fewer_documents_than_a_batch_has_rows() -> None:
    assert Bench(only="train").count == DOCUMENTS
    assert Bench(only="batch").count == ROWS
    assert Bench(only="train", rows=ROWS).count == ROWS


def test_a_trainer_without_its_package_is_named_with_the_command(
    tiny: Path, main_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MODULE", "no_such_library")
    told = ("bench", "-m", str(tiny), "--only", "train", "--against", "transformers")
    code, out, err = main_in(*told)
    assert (code, out) == (69, "")
    assert "--against: no_such_library: not installed. Run: pip install 'gptcli[bench]'" in err


def test_a_model_of_another_kind_is_not_trained(tmp_path: Path, main_in: Any) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    code, _, err = main_in("bench", "-m", str(tmp_path), "--only", "train")
    assert code == 2
    assert "gpt_neox model, and only GPT-2 is trained" in err


def test_a_process_that_fails_is_told_by_its_last_line_or_its_status() -> None:
    assert processes.answer(["sh", "-c", "echo a; echo b"]) == "b"
    with pytest.raises(processes.Unavailable, match=r"no luck\)\. Try again"):
        processes.answer(["sh", "-c", "echo no luck >&2; exit 3"], "Try again")
    with pytest.raises(processes.Unavailable, match=r"fails \(status -9\)"):
        processes.answer(["sh", "-c", "kill -9 $$"])


def test_a_process_ends_with_the_benchmark() -> None:
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(processes.answer, ["sh", "-c", "exec sleep 60"])
        while not processes._running:
            time.sleep(0.01)
        processes.stop()
        with pytest.raises(processes.Unavailable, match="status -9"):
            told.result()
    assert processes._running == []
