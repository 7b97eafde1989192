"""`--adapter` on every command that runs a model, `models merge`, and what is said of adapters."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.adapters import PREFIX, SMALL, adapter, base, pair
from support.fake_hub import FakeHub, begin_empty, point_at

from gptcli.api import load
from gptcli.checkpoints.adapters.numbers import floats
from gptcli.checkpoints.preflight import inspect
from gptcli.engines import open_engine
from gptcli.engines.gpt2.reference import ReferenceNetwork
from gptcli.engines.gpt2.tracing import tracer
from gptcli.options import Load
from gptcli.protocol import Engine
from gptcli.server.service import Service, ServiceLimits

Cli = Callable[..., tuple[int, str, str]]
RUN = ("-m", "tiny-tales", "--seed", "1", "--dtype", "float32")
SHORT = ("--max-new-tokens", "12")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of tiny-tales that changes what it writes."""
    tensors = pair("h.0.attn.c_attn", 192, 576) | pair("h.3.mlp.c_fc", 192, 768, seed=2)
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    return adapter(folder, tensors, base_model_name_or_path="tiny-tales", lora_alpha=0.5)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTCLI_OFFLINE", "1")


def test_it_changes_the_text_and_says_how(main_in: Cli, lora: Path) -> None:
    plain = main_in("generate", *RUN, *SHORT, "Once")[1]
    code, adapted, said = main_in("generate", *RUN, *SHORT, "-v", "--adapter", str(lora), "Once")
    assert code == 0
    assert adapted != plain
    assert "LoRA of rank 2 times 0.25 on attn.c_attn of layers 0" in said
    assert "tiny-tales+lora" in said
    assert main_in("generate", *RUN, *SHORT, "--adapter", f"{lora}=0", "Once")[1] == plain
    named = main_in("generate", "-m", str(lora), *RUN[2:], *SHORT, "Once")
    assert named[1] == adapted
    assert "adapter" not in named[2]
    model = load("tiny-tales", adapter=str(lora), dtype="float32")
    assert model.generate("Once", seed=1, max_new_tokens=12).text in adapted


def test_int8_weights_are_kept_for_each_adapter(main_in: Cli, lora: Path) -> None:
    args = ("generate", "-m", "tiny-tales", "--dtype", "int8", "--seed", "1", *SHORT, "Once")
    adapted = ("--adapter", str(lora))
    first = [main_in(*args)[1], main_in(*args, *adapted)[1]]
    assert first[0] != first[1]
    assert [main_in(*args)[1], main_in(*args, *adapted)[1]] == first


def test_scores_tasks_and_views_are_of_the_adapted_model(main_in: Cli, lora: Path) -> None:
    for args in (
        ("score", "--json", *RUN[:2], "The king rode away."),
        ("inspect", "--json", *RUN[:2], "The king"),
        ("inspect", "lens", "--json", *RUN[:2], "The king"),
    ):
        plain, adapted = (main_in(*args, *more) for more in ((), ("--adapter", str(lora))))
        assert plain[0] == adapted[0] == 0, adapted
        assert plain[1] != adapted[1]


def halved(lora: Path) -> Engine:
    return open_engine(Load(model="tiny-tales", adapter=(f"{lora}=0.5",), dtype="float32"))


def test_the_inside_of_a_model_is_that_of_its_networks(lora: Path) -> None:
    engine = open_engine(Load(model="tiny-tales", adapter=(str(lora),), dtype="float32"))
    traced = tracer(engine)
    assert traced.checked.digests
    assert traced.network.embedded([1]).shape == (1, 192)
    prints = {Service.of(one, ServiceLimits()).fingerprint for one in (engine, halved(lora))}
    assert len(prints) == 2  # clients see that another model answers


def test_a_batch_knows_its_adapters(
    main_in: Cli, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows.txt"
    rows.write_text("Once\nThe king\n")
    args = ("batch", str(rows), *RUN, *SHORT, "-o")
    assert main_in(*args, "plain.jsonl")[0] == 0
    relative = os.path.relpath(lora)
    assert main_in(*args, "adapted.jsonl", "--adapter", relative)[0] == 0
    plain, adapted = (
        [json.loads(line)["text"] for line in Path(name).read_text().splitlines()]
        for name in ("plain.jsonl", "adapted.jsonl")
    )
    assert plain != adapted
    code, _, said = main_in(*args, "adapted.jsonl", "--adapter", f"{lora}=0.5")
    assert code != 0
    assert "adapter" in said
    assert main_in(*args, "workers.jsonl", "--adapter", relative, "--workers", "2")[0] == 0
    assert Path("workers.jsonl").read_text() == Path("adapted.jsonl").read_text()


def test_a_record_replays_with_its_adapters_and_notices_changed_ones(
    main_in: Cli, lora: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (own / name).write_bytes((lora / name).read_bytes())
    record = tmp_path / "run.jsonl"
    run = ("generate", *RUN, *SHORT, "--adapter", f"{own}=0.5", "--record", str(record), "Once")
    assert main_in(*run)[0] == 0
    first = json.loads(record.read_text().splitlines()[0])
    assert any("adapter_model.safetensors" in name for name in first["files"])
    code, out, _ = main_in("replay", str(record))
    assert (code, "identical" in out) == (0, True)
    tensors = pair("h.0.attn.c_attn", 192, 576, seed=9)
    adapter(own, tensors, base_model_name_or_path="tiny-tales", lora_alpha=0.5)
    code, _, said = main_in("replay", str(record))
    assert code != 0
    assert "adapter_model.safetensors has other contents" in said


def test_what_cannot_be_applied_ends_in_one_line(main_in: Cli, lora: Path, tmp_path: Path) -> None:
    small = adapter(tmp_path / "small")
    for args, named in (
        (("--adapter", str(small)), "[192, 576]"),
        (("--adapter", str(tmp_path)), "adapter_config.json"),
        (("--adapter", f"{lora}=x"), "SCALE"),
        (("--adapter", str(lora), "--server", "http://127.0.0.1:9/v1"), "own weights"),
        (("--adapter", "someone/nothing"), "not in the cache"),
    ):
        code, out, said = main_in("generate", *RUN, *args, "Once")
        assert (code != 0, out, said.count("\n")) == (True, "", 1), said
        assert named in said


def test_merged_is_the_base_with_its_adapters(main_in: Cli, lora: Path, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    args = ("models", "merge", "tiny-tales", f"{lora}=0.5", "-o", str(place))
    code, out, said = main_in(*args, "--type", "float32")
    assert (code, out) == (0, f"{place}\n"), said
    assert "differ by at most 0 nats" in said
    text = main_in("generate", *RUN, *SHORT, "--adapter", f"{lora}=0.5", "Once")[1]
    assert main_in("generate", "-m", str(place), *RUN[2:], *SHORT, "Once")[1] == text
    note = json.loads((place / "conversion.json").read_text())
    assert {"config.json", "adapter 1 x0.5 adapter_model.safetensors"} <= note["files"].keys()
    assert main_in("models", "verify", str(place))[0] == 0
    code, _, said = main_in(*args)
    assert (code != 0, "already" in said) == (True, True)


def test_a_merge_keeps_what_became_two_matrices(main_in: Cli, tmp_path: Path) -> None:
    there = base(tmp_path / "base", dtype=np.float16)
    own = {f"{PREFIX}wte.weight": np.full((24, 8), 0.1, np.float32)}
    adapter(tmp_path / "own", own, modules_to_save=["wte"])
    args = ("models", "merge", str(there), str(tmp_path / "own"), "-o", str(tmp_path / "merged"))
    assert main_in(*args)[0] == 0
    merged = inspect(tmp_path / "merged")
    assert merged.gpt2 is not None
    assert not merged.gpt2.tie_word_embeddings
    head = floats(inspect(there).tensors["wte.weight"])
    assert np.array_equal(floats(merged.tensors["lm_head.weight"]), head)
    assert merged.tensors["wte.weight"].dtype == "F16"
    assert ReferenceNetwork(merged.gpt2, merged).final([1, 2]).shape == (2, SMALL.n_embd)


def test_a_merge_that_fails_leaves_nothing(main_in: Cli, tmp_path: Path) -> None:
    there = base(tmp_path / "base", dtype=np.float16)
    huge = {f"{PREFIX}ln_f.bias": np.full(8, 1e9, np.float32)}
    adapter(tmp_path / "huge", huge)
    args = ("models", "merge", str(there), str(tmp_path / "huge"), "-o", str(tmp_path / "merged"))
    code, _, said = main_in(*args)
    assert (code != 0, "float32" in said) == (True, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "huge"]


def test_an_adapter_is_shown_as_one(main_in: Cli, lora: Path) -> None:
    code, out, _ = main_in("models", "info", str(lora), "--json")
    known = json.loads(out)
    assert (code, known["kind"], known["base"], known["scales"]) == (
        *(0, "adapter", "tiny-tales"),
        [0.25],
    )
    assert known["tensors"] == 4
    assert "LoRA of rank 2" in main_in("models", "info", str(lora))[1]


def test_an_adapter_of_the_hub_is_fetched_listed_and_applied(
    main_in: Cli, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_empty(tmp_path / "cache", monkeypatch)
    monkeypatch.delenv("GPTCLI_OFFLINE")
    names = ("adapter_config.json", "adapter_model.safetensors")
    files = {name: (lora / name).read_bytes() for name in names}
    with FakeHub("someone/lora", files | {"optimizer.pt": b"no"}) as hub:
        point_at(hub.url, monkeypatch)
        args = ("generate", *RUN, *SHORT, "Once")
        code, fetched, said = main_in(*args, "--adapter", "someone/lora")
        assert code == 0, said
    monkeypatch.setenv("GPTCLI_OFFLINE", "1")
    assert fetched == main_in(*args, "--adapter", str(lora))[1]
    assert main_in("generate", "-m", "someone/lora", *RUN[2:], *SHORT, "Once")[1] == fetched
    listed = {entry["name"]: entry for entry in json.loads(main_in("models", "list", "--json")[1])}
    found = listed["someone/lora"]
    assert (found["kind"], found["state"]) == ("adapter", "complete")
    assert found["architecture"] == "LoRA of tiny-tales"
