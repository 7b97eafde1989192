"""The benchmark: that it measures what it says, not how fast anything is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import TALES

from gptcli import bench
from gptcli.bench import Figure, Work
from gptcli.cli.app import main
from gptcli.engines import open_engine
from gptcli.errors import Unavailable
from gptcli.options import Load
from gptcli.peers import PEERS


def test_ratios_are_of_pairs() -> None:
    figure = Figure("speed", "tokens/s", (2.0, 9.0, 4.0), (1.0, 3.0, 4.0))
    assert figure.ratios == [2.0, 3.0, 1.0]
    assert figure.median == 4.0
    assert figure.to_dict()["ratio"] == 2.0


def test_the_mixed_workload_is_mixed_and_fixed() -> None:
    mixed = bench.workloads()["64 mixed rows"]
    assert len(mixed) == 64
    assert len({len(item.prompt) for item in mixed}) > 8
    lengths = [item.new_tokens for item in mixed]
    assert min(lengths) >= 8
    assert max(lengths) <= 128
    assert len(set(lengths)) > 16
    assert mixed == bench.workloads()["64 mixed rows"]


def test_a_process_is_timed_and_its_failure_told() -> None:
    seconds, megabytes = bench._process(["sh", "-c", "sleep 0.2"])
    assert seconds >= 0.2
    assert megabytes > 0
    with pytest.raises(Unavailable, match="no luck"):
        bench._process(["sh", "-c", "echo no luck >&2; exit 3"])


def test_our_engine_writes_the_tokens_that_are_counted(tales: Path) -> None:
    engine = bench.open_engine(Load(model="tiny-tales"), 2)
    bench._write(engine, [Work("Once", 3), Work("a b", 2)])


def test_the_peer_writes_at_least_the_tokens_that_are_counted(
    tales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = PEERS["transformers"](tales)
    shapes = []
    real = peer._model.generate

    def spy(**settings: object) -> object:
        out = real(**settings)
        shapes.append(tuple(out.shape))
        return out

    monkeypatch.setattr(peer._model, "generate", spy)
    bench._write_peer(peer, [Work("Once", 3), Work("Once", 2)])
    prompt = len(peer._tokenizer("Once")["input_ids"])
    assert shapes == [(2, prompt + 3)]


def test_the_command_prints_every_run_as_json_lines(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "workloads", lambda: {"2 rows": [Work("Once", 3), Work("a b", 2)]})
    monkeypatch.setattr(bench, "REHEARSAL", "pass")
    monkeypatch.setattr(bench, "LINES", 3)
    with pytest.raises(SystemExit) as ended:
        main(["bench", *TALES, "--runs", "1", "--json"])
    assert ended.value.code == 0
    figures = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    units = [figure["unit"] for figure in figures]
    assert units == ["s", "MB", "MB", "tokens/s", "lines/s", "lines/s", "times"]
    assert all(len(figure["ours"]) == 1 and figure["ours"][0] > 0 for figure in figures)


def test_the_task_labels_every_line_alike_with_and_without_the_prefix_cache(tales: Path) -> None:
    texts = ["A good king", "A bad wolf", "The old fox", "A kind fairy", "The dead giant"]
    load = Load(model=str(tales))
    found = [
        bench.labelled(open_engine(replace(load, prefix_cache=reuse), 2), texts)
        for reuse in (True, False)
    ]
    assert len(found[0]) == len(texts)
    assert found[0] == found[1]


def test_the_table_shows_medians_and_ratios() -> None:
    from gptcli.cli.render import figures

    table = figures([Figure("decode", "tokens/s", (2.0, 9.0, 4.0), (1.0, 3.0, 4.0))], "other")
    assert "4 (2-9)" in table
    assert "2 (1-3)" in table
