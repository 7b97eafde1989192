"""The benchmark: that it measures what it says, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.commands import TALES

from gptcli.bench import labelling, measure, processes, rounds, speeds, workloads
from gptcli.bench.entrants import Entrant, open_ours, plain, seconds, written
from gptcli.bench.figures import EngineRuns, Figure
from gptcli.bench.options import Bench
from gptcli.bench.peers import roster
from gptcli.bench.peers.peer import PeerSetting, PeerWork
from gptcli.bench.rounds import EngineTurn, in_turn
from gptcli.checkpoints.preflight import inspect
from gptcli.cli.commands.bench import table_of
from gptcli.engines import open_engine
from gptcli.engines.bandwidth import Machine, bandwidth, machine
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load

OURS = EngineRuns("gptcli", (2.0, 9.0, 4.0), limit=8.0)
OTHER = EngineRuns("other", (1.0, 3.0, 4.0))
FIGURE = Figure("decode", "tokens/s", OURS, (OTHER, EngineRuns("none")))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PAUSE_SECONDS", 0.0)


class Echo:
    """A peer that writes what it is asked for, without a model."""

    modules = ()
    dtypes = ("float32", "int8")
    devices = ("cpu", "cuda")
    cold = "import sys; assert len(sys.argv) == 6"

    def __init__(self, setting: PeerSetting) -> None:
        assert (setting.folder / "config.json").exists()

    @staticmethod
    def prepare(checkpoint: Path, folder: Path, dtype: str) -> None:
        """Nothing to convert."""

    def write(self, work: Sequence[PeerWork]) -> list[list[int]]:
        """Zeros."""
        return [[0] * item.new_tokens for item in work]


class Short(Echo):
    """A peer that stops early."""

    def write(self, work: Sequence[PeerWork]) -> list[list[int]]:
        """One token less than asked for."""
        return [[0] * (item.new_tokens - 1) for item in work]


class Absent(Echo):
    """A peer whose library is not installed."""

    modules = ("no_such_library",)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers that need no library; their children are not started."""
    named = {"echo": Echo, "short": Short, "absent": Absent}
    monkeypatch.setattr(roster, "PEERS", named)
    monkeypatch.setattr(measure, "machine_of", lambda load: Machine("cpu", 1))
    monkeypatch.setattr(measure, "measured", lambda command: (0.0, 0.0))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less work than a benchmark has."""
    works = {"1 row": [PeerWork("Once", 3)], "2 rows": [PeerWork("Once", 3), PeerWork("a b", 2)]}
    monkeypatch.setattr(workloads, "decoding", lambda: works)
    monkeypatch.setattr(workloads, "NEW_TOKENS", 2)
    monkeypatch.setattr(workloads, "MIXED_ROWS", 2)
    monkeypatch.setattr(measure, "bandwidth", lambda place: 20.0)
    monkeypatch.setattr(speeds, "PREFILL_TOKENS", (8, 512))
    monkeypatch.setattr(labelling, "LINE_COUNT", 3)


def test_ratios_are_of_pairs() -> None:
    assert FIGURE.ratios(OTHER) == [2.0, 3.0, 1.0]
    assert FIGURE.to_dict()["theirs"][0]["ratio"] == 2.0  # type: ignore[index]


def test_an_engine_without_runs_has_no_ratio() -> None:
    assert FIGURE.ratios(FIGURE.theirs[1]) == []
    assert FIGURE.to_dict()["theirs"][1] == {"engine": "none", "runs": []}  # type: ignore[index]


def test_the_share_of_the_limit_is_the_medians() -> None:
    assert OURS.share == 0.5
    assert OTHER.share is None


def test_the_json_says_which_way_is_better() -> None:
    assert FIGURE.to_dict()["better"] == "more"
    assert replace(FIGURE, more_is_better=False).to_dict()["better"] == "less"


def test_the_table_shows_medians_ratios_and_shares() -> None:
    lines = table_of([FIGURE]).rstrip().splitlines()
    [ours, other, none] = [" ".join(line.split()) for line in lines[-3:]]
    assert ours == "decode, tokens/s gptcli 4 (2-9) 50%"
    assert other == "other 3 (1-4) 2 (1-3)"
    assert none == "none - -"


def test_the_table_has_no_column_without_numbers() -> None:
    assert "theirs" not in table_of([Figure("a", "s", EngineRuns("gptcli", (1.0,)))])


def test_the_table_says_where_less_is_better() -> None:
    assert "a, s (less is better)" in table_of(
        [Figure("a", "s", EngineRuns("gptcli", (1.0,)), more_is_better=False)]
    )


def test_a_figure_without_a_unit_is_called_by_its_name() -> None:
    assert Figure("perplexity", "", EngineRuns("gptcli")).title == "perplexity"


def test_engines_take_turns_and_the_first_round_is_dropped() -> None:
    calls: list[tuple[str, int]] = []

    def turn(name: str) -> EngineTurn:
        def measure(run: int) -> tuple[float, float]:
            calls.append((name, run))
            return run, 10.0 * run

        return EngineTurn(name, measure)

    [ones, tens] = in_turn([turn("a"), turn("b")], 2, pytest.fail)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert ones == (EngineRuns("a", (1, 2)), EngineRuns("b", (1, 2)))
    assert tens == (EngineRuns("a", (10, 20)), EngineRuns("b", (10, 20)))


def test_a_peer_that_fails_is_left_out_and_named() -> None:
    def broken(run: int) -> tuple[float]:
        if run == 2:
            raise RuntimeError("no luck\nat all")
        return (1.0,)

    said: list[str] = []
    turns = [EngineTurn("ours", lambda run: (2.0,)), EngineTurn("theirs", broken)]
    assert in_turn(turns, 3, said.append) == [
        (EngineRuns("ours", (2.0,) * 3), EngineRuns("theirs"))
    ]
    assert said == ["theirs is left out: no luck"]


def test_our_own_failure_ends_the_benchmark() -> None:
    def broken(run: int) -> tuple[float]:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        in_turn([EngineTurn("ours", broken)], 1, pytest.fail)


def test_mixed_work_is_mixed_and_fixed() -> None:
    mixed = workloads.mixed(64)
    assert len({len(item.prompt) for item in mixed}) > 8
    lengths = [item.new_tokens for item in mixed]
    assert min(lengths) >= 8
    assert max(lengths) <= 128
    assert len(set(lengths)) > 16
    assert mixed == workloads.mixed(64)


def test_a_prompt_has_its_length_and_is_another_in_each_run(tales: Path) -> None:
    engine = open_engine(Load(model=str(tales)))
    prompts = [workloads.prompt(engine.count, 100, run) for run in range(3)]
    assert [engine.count(text) for text in prompts] == [100] * 3
    assert len({text[:40] for text in prompts}) == 3


def test_a_speed_is_refused_where_fewer_tokens_were_written() -> None:
    entrant = Entrant("lazy", "float32", lambda work: [2 for _ in work])
    with pytest.raises(Unavailable, match="lazy: it wrote 2 tokens instead of 3"):
        seconds(entrant, [PeerWork("Once", 3)])


def test_our_engine_writes_the_tokens_that_are_counted(tales: Path) -> None:
    engine = open_engine(Load(model=str(tales)), 2)
    assert written(engine, [PeerWork("Once", 3), PeerWork("a b", 2)]) == [3, 2]


def test_plain_decoding_has_neither_a_prefix_cache_nor_drafts() -> None:
    found = plain(Load(draft="ngram", draft_model="distil"))
    assert (found.prefix_cache, found.draft, found.draft_model) == (False, "off", None)


def test_our_engine_is_called_by_the_number_format_it_has(tales: Path) -> None:
    _, entrant = open_ours(Load(model=str(tales), dtype="float32"))
    assert entrant.label == "gptcli float32"


def test_the_limit_of_one_row_is_bandwidth_over_weights() -> None:
    def limit(dtype: str) -> float | None:
        return speeds.limit(Entrant("x", dtype, lambda work: []), 100, 40.0)

    assert limit("float32") == 1e8
    assert limit("bfloat16") == 2e8
    assert limit("int8") == 4e8
    assert limit("strange") is None


def test_the_weights_of_a_token_leave_out_the_positions(tiny: Path) -> None:
    config = inspect(tiny).gpt2
    assert config is not None
    assert measure._weights(tiny, 0) == config.parameters - 64 * 32


def test_the_weights_of_a_token_leave_out_an_embedding_that_is_no_head(make_tiny: Any) -> None:
    folder = make_tiny(tie_word_embeddings=False)
    config = inspect(folder).gpt2
    assert measure._weights(folder, 0) == config.parameters - (64 + 512) * 32


def test_the_memory_bandwidth_is_in_gigabytes_a_second() -> None:
    assert 0.1 < bandwidth(machine(Load(device="cpu")), megabytes=8, times=2) < 10_000


def test_a_child_finds_the_threads_without_torch_here() -> None:
    assert processes.machine_of(Load(device="cpu", threads=1)) == Machine("cpu", 1)


def test_a_child_reads_what_it_is_told_of_a_peer(tales: Path) -> None:
    setting = PeerSetting(folder=tales, dtype="float32", device="cpu", threads=1, slots=2)
    [contender] = roster.contenders("transformers")
    told = subprocess.run(
        processes.child(f"print([{contender!r}, {setting!r}, {Load()!r}])"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str([contender, setting, Load()])


def test_a_process_is_timed_and_its_failure_told() -> None:
    seconds, megabytes = processes.measured(["sh", "-c", "sleep 0.2"])
    assert seconds >= 0.2
    assert megabytes > 0
    with pytest.raises(Unavailable, match="no luck"):
        processes.measured(["sh", "-c", "echo no luck >&2; exit 3"])


def test_the_task_labels_every_line_alike_with_and_without_the_prefix_cache(tales: Path) -> None:
    texts = ["A good king", "A bad wolf", "The old fox", "A kind fairy", "The dead giant"]
    load = Load(model=str(tales))
    found = [
        labelling.labelled(open_engine(replace(load, prefix_cache=reuse), 2), texts)
        for reuse in (True, False)
    ]
    assert len(found[0]) == len(texts)
    assert found[0] == found[1]


def test_a_batch_needs_a_long_context(tales: Path) -> None:
    load = Load(model=str(tales))
    with pytest.raises(UsageError, match="context of 640"):
        list(speeds.many_rows(load, [], 1, 1, pytest.fail))


def test_a_batch_counts_what_each_row_was_given(tales: Path) -> None:
    engine, _ = open_ours(Load(model=str(tales)))
    assert speeds._batched(engine, [PeerWork("Once", 3), PeerWork("a b", 2)]) == [3, 2]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("start", "cold peak peak"),
        ("decode", "memory decode decode"),
        ("mixed", "decode"),
        ("prefill", "prefill first"),
        ("tasks", "classify the gain"),
        (None, "cold peak peak memory decode decode decode prefill first classify the gain"),
    ],
)
@pytest.mark.usefixtures("small")
def test_only_chooses_what_is_measured(
    only: Any, expected: str, monkeypatch: pytest.MonkeyPatch, tales: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "measured", lambda command: (1.0, 2.0))
    load, bench = Load(model=str(tales)), Bench(only=only, runs=1)
    found = list(measure.measure(load, bench, tmp_path, lambda text: None))
    assert [figure.name.split()[0].strip(",") for figure in found] == expected.split()
    assert all(len(figure.ours.values) == 1 and figure.ours.values[0] > 0 for figure in found)


@pytest.mark.usefixtures("small")
def test_a_prompt_longer_than_the_context_is_left_out_and_said(tales: Path, tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench(only="prefill", runs=1)
    list(measure.measure(Load(model=str(tales)), bench, tmp_path, said.append))
    assert said == ["prefill of 512 tokens is left out: the context is 512"]


@pytest.mark.usefixtures("small", "peers")
def test_every_peer_has_as_many_runs_as_we(main_in: Any) -> None:
    code, out, _ = main_in(
        "bench", *TALES, "--only", "decode", "--runs", "2", "--json", "--against", "echo,echo:int8"
    )
    assert code == 0
    shown = [json.loads(line) for line in out.splitlines()]
    assert [figure["name"] for figure in shown[1:]] == ["decode, 1 row", "decode, 2 rows"]
    for figure in shown[1:]:
        assert [peer["engine"] for peer in figure["theirs"]] == ["echo float32", "echo int8"]
        assert [len(peer["ratios"]) for peer in figure["theirs"]] == [2, 2]


@pytest.mark.usefixtures("small", "peers")
def test_one_rows_decoding_has_a_limit_that_depends_on_the_number_format(
    main_in: Any, tales: Path
) -> None:
    told = ("--only", "decode", "--runs", "1", "--json", "--against", "echo,echo:int8")
    lines = main_in("bench", *TALES, *told)[1].splitlines()
    weights = measure._weights(tales, 0)
    found = [peer["limit"] for peer in json.loads(lines[1])["theirs"]]
    assert found == pytest.approx([20e9 / (4 * weights), 20e9 / weights])
    assert "limit" not in json.loads(lines[2])["theirs"][0]


@pytest.mark.usefixtures("small", "peers")
def test_a_peer_that_stops_early_has_no_figure(main_in: Any) -> None:
    code, out, err = main_in(
        "bench", *TALES, "--only", "decode", "--runs", "1", "--against", "short"
    )
    assert code == 0
    assert "short float32 is left out: short float32: it wrote 2 tokens instead of 3" in err
    assert "short float32 - -" in " ".join(out.split())


@pytest.mark.usefixtures("small", "peers")
def test_a_peer_that_is_not_installed_is_named_with_the_command(main_in: Any) -> None:
    code, out, err = main_in(
        "bench", *TALES, "--only", "decode", "--runs", "1", "--against", "absent,echo"
    )
    assert code == 0
    assert "absent float32 is left out: no_such_library is not installed" in err
    assert "pip install 'gptcli[bench]'" in err
    assert "absent" not in out


@pytest.mark.usefixtures("peers")
def test_without_any_peer_asked_for_nothing_is_measured(main_in: Any) -> None:
    code, out, err = main_in("bench", *TALES, "--against", "absent")
    assert (code, out) == (69, "")
    assert "--against: absent: not installed. Run: pip install 'gptcli[bench]'" in err


@pytest.mark.usefixtures("peers")
def test_a_peer_that_lacks_the_device_is_left_out(
    monkeypatch: pytest.MonkeyPatch, main_in: Any
) -> None:
    monkeypatch.setattr(measure, "machine_of", lambda load: Machine("mps", 1))
    code, _, err = main_in("bench", *TALES, "--against", "echo")
    assert code == 69
    assert "it does not run on mps here" in err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("torch", "'torch' is not one of transformers, ctranslate2, llama.cpp"),
        ("llama.cpp:int8", "'llama.cpp:int8' is not one of f32, f16, q8_0"),
        ("transformers,transformers:float32", "names an engine twice"),
        ("", "'' is not one of"),
    ],
)
def test_a_wrong_peer_is_refused_before_anything_runs(text: str, why: str, main_in: Any) -> None:
    code, _, err = main_in("bench", *TALES, "--against", text)
    assert code == 2
    assert f"--against: {why}" in err or why in err


def test_peers_are_named_with_their_number_format() -> None:
    asked = Bench(against="transformers, ctranslate2:int8,llama.cpp").peers
    assert [peer.label for peer in asked] == [
        "transformers float32",
        "ctranslate2 int8",
        "llama.cpp f32",
    ]


def test_a_server_is_not_measured(tales: Path, tmp_path: Path) -> None:
    load = Load(model=str(tales), server="http://127.0.0.1:1/v1")
    with pytest.raises(UsageError, match="on this machine"):
        list(measure.measure(load, Bench(), tmp_path, pytest.fail))


@pytest.mark.usefixtures("small")
def test_the_chart_is_written_when_all_is_measured(tmp_path: Path, main_in: Any) -> None:
    file = tmp_path / "bench.svg"
    told = ("bench", *TALES, "--only", "decode", "--runs", "1", "--svg", str(file))
    assert main_in(*told)[0] == 0
    assert "decode, 1 row" in file.read_text()
    assert main_in(*told)[0] == 73
    assert main_in(*told, "--force")[0] == 0


@pytest.mark.usefixtures("small", "peers")
def test_converted_models_are_removed(monkeypatch: pytest.MonkeyPatch, main_in: Any) -> None:
    folders: list[Path] = []

    def rival(load: Load, contender: object, folder: Path, place: Machine) -> None:
        folder.mkdir()
        folders.append(folder)
        raise Unavailable("no", "luck")

    monkeypatch.setattr(measure, "_rival", rival)
    assert main_in("bench", *TALES, "--against", "echo")[0] == 69
    assert len(folders) == 1
    assert not folders[0].parent.exists()
