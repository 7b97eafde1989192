"""`gptcli batch` as people and scripts run it."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import REAL, TALES, Terminal, environment, run
from support.fake_engine import INFO, FakeEngine
from support.fake_server import FakeServer, failing, hanging_up

from gptcli.batch.run.tally import Tally
from gptcli.errors import BadInput

Answer = tuple[int, str, str]
Cli = Callable[..., Answer]
# Read when the module is: later every test is without such variables.
ROUNDS = int(os.environ.get("GPTCLI_KILL_ROUNDS", "4"))
MODEL = ("-m", "tiny-tales", "--offline", "--max-new-tokens", "8", "--seed", "1")


@pytest.fixture
def batch(main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A function that runs `gptcli batch` in an empty folder on an engine that shouts."""
    monkeypatch.chdir(tmp_path)

    def batch(*args: str, engine: FakeEngine | None = None, stdin: bytes = b"") -> Answer:
        used = engine or FakeEngine(
            reply=lambda r: r.prompt.upper(), info=replace(INFO, context=99)
        )
        return main_in("batch", *args, *MODEL, engine=used, stdin=stdin)

    return batch


def shouting() -> FakeEngine:
    return FakeEngine(reply=lambda r: r.prompt.upper(), info=replace(INFO, context=99))


def lines(count: int = 5) -> str:
    return "".join(f"row {number}\n" for number in range(count))


def read(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_every_row_of_a_file_gives_a_line_in_order(batch: Cli) -> None:
    Path("in.txt").write_text(lines())
    code, out, err = batch("in.txt", "-o", "out.jsonl")
    assert (code, out) == (0, "")
    assert "done: 5 of 5 rows" in err
    assert [row["text"] for row in read("out.jsonl")] == [f"ROW {n}" for n in range(5)]
    keys = "id index prompt text finish_reason usage seed model revision truncated error"
    assert list(read("out.jsonl")[0]) == ["key", *keys.split()]


def test_standard_input_goes_to_standard_output(batch: Cli) -> None:
    code, out, _ = batch(stdin=b"a\nb\n")
    assert code == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["A", "B"]


def test_other_columns_are_carried_and_settings_are_said(batch: Cli) -> None:
    Path("in.csv").write_text(
        "id;prompt;cond;model;seed;temperature\n1;a;x;m;5;0.5\n2;b;y;n;;\n3;c\n4;;z;o;6;\n"
    )
    code, _, err = batch("in.csv", "-o", "out.jsonl")
    assert code == 3
    found = read("out.jsonl")
    assert [(row["id"], row["text"]) for row in found] == [
        *(("1", "A"), ("2", "B"), ("3", ""), ("4", ""))
    ]
    assert [row["cond"] for row in found] == ["x", "y", None, "z"]
    assert [row["input_model"] for row in found] == ["m", "n", None, "o"]
    assert [row["model"] for row in found] == [INFO.name] * 4
    assert [row["temperature"] for row in found] == ["0.5", "", None, ""]
    assert err.count("seed, temperature: taken as settings of each row; --no-row-settings") == 1
    assert err.count("separated by semicolons") == 1
    assert err.count("column model: written as input_model") == 1
    batch("in.csv", "-o", "rows.csv", "--no-row-settings")
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cond"], row["temperature"]) for row in rows[:2]] == [("x", "0.5"), ("y", "")]


def test_a_value_that_is_no_setting_is_refused_with_the_flag_that_helps(batch: Cli) -> None:
    Path("in.csv").write_text("id,text,seed\n1,a,oak\n")
    code, out, _ = batch("in.csv")
    assert code == 3
    assert "--no-row-settings" in json.loads(out)["error"]["hint"]
    code, out, err = batch("in.csv", "--no-row-settings")
    assert (code, json.loads(out)["input_seed"]) == (0, "oak")
    assert "column seed: written as input_seed" in err


def test_numbers_and_keys_of_data_frames_do_no_harm(batch: Cli) -> None:
    values = ["NaN", "Infinity", "1e999", "9" * 39, '{"a": 1, "a": 2}']
    rows = [f'{{"id": {n}.0, "prompt": "a", "x": {value}}}' for n, value in enumerate(values)]
    Path("in.jsonl").write_text("\n".join(rows))
    assert batch("in.jsonl", "-o", "out.jsonl")[0] == 0
    assert [row["id"] for row in read("out.jsonl")] == ["0", "1", "2", "3", "4"]
    assert [row["x"] for row in read("out.jsonl")] == [
        *(None, "Infinity", "Infinity", int("9" * 39), {"a": 2})
    ]


def test_rows_that_were_all_there_have_no_speed(batch: Cli) -> None:
    Path("in.txt").write_text(lines())
    batch("in.txt", "-o", "out.jsonl")
    _, _, err = batch("in.txt", "-o", "out.jsonl")
    assert "done: 5 of 5 rows, none left to compute; out.jsonl" in err


def test_a_terminal_is_read_only_where_it_is_named_and_that_is_said(tmp_path: Path) -> None:
    terminal = Terminal(REAL, "batch", *TALES)
    assert terminal.finish() != 0
    assert b"no input: standard input is a terminal" in terminal.output
    terminal = Terminal(REAL, "batch", "-", "-o", str(tmp_path / "out.jsonl"), *TALES)
    terminal.read_until(b"reading rows from the terminal, one a line; Ctrl-D ends them")
    terminal.send(b"Once\n\x04")
    assert terminal.finish() == 0


def test_rows_of_json_have_settings_and_ids_of_their_own(batch: Cli) -> None:
    rows = [{"id": "x", "prompt": "a", "seed": 7}, {"prompt": "b", "max_tokens": "many"}]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = batch("in.jsonl", "-o", "out.jsonl")[0]
    first, second = read("out.jsonl")
    assert (code, first["id"], first["error"]) == (3, "x", None)
    assert second["error"]


def test_a_table_in_gives_a_table_out(batch: Cli) -> None:
    Path("in.csv").write_text('id,text\nx,"a, b"\ny,c\n')
    assert batch("in.csv", "-o", "out.csv")[0] == 0
    with Path("out.csv").open() as file:
        assert [(row["id"], row["text"]) for row in csv.DictReader(file)] == [
            ("x", "A, B"),
            ("y", "C"),
        ]


def test_a_task_runs_on_every_row_with_its_own_sampling(batch: Cli) -> None:
    Path("in.txt").write_text("Hallo.\n")
    engine = FakeEngine(reply=lambda r: " Dag.\n", info=replace(INFO, context=999), asked=[])
    code = batch(
        "in.txt",
        "--task",
        "translate",
        "--set",
        "from=de",
        "--set",
        "to=nl",
        "-o",
        "o.jsonl",
        engine=engine,
    )[0]
    assert code == 0
    assert engine.asked is not None
    assert engine.asked[0].sampling.temperature == 0
    assert read("o.jsonl")[0]["text"] == "Dag."


def test_the_same_command_again_computes_nothing(batch: Cli) -> None:
    Path("in.txt").write_text(lines())
    batch("in.txt", "-o", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    assert batch("in.txt", "-o", "out.jsonl", engine=FakeEngine(error=BadInput("x")))[0] == 0
    assert Path("out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "args", "code", "what"),
    [
        (lines(6), (), 65, "in.txt"),
        (lines(), ("--top-k", "3"), 65, "top_k"),
        (lines(), ("--no-resume",), 73, ""),
        (lines(), ("--force",), 0, ""),
    ],
)
def test_what_is_there_is_gone_on_with_only_if_it_is_the_same(
    batch: Cli, change: str, args: tuple[str, ...], code: int, what: str
) -> None:
    Path("in.txt").write_text(lines())
    batch("in.txt", "-o", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    Path("in.txt").write_text(change)
    found, _, err = batch("in.txt", "-o", "out.jsonl", *args)
    assert found == code, err
    assert what in err
    assert Path("out.jsonl").read_bytes() == before


def failing_on(word: str) -> FakeEngine:
    """An engine whose reply to a prompt with this word cannot be made."""

    class Engine(FakeEngine):
        def _sequence(self, request, index):  # type: ignore[no-untyped-def]
            self.error = BadInput("no") if word in request.prompt else None
            return super()._sequence(request, index)

    return Engine(reply=lambda r: r.prompt.upper(), info=replace(INFO, context=99))


def test_failed_rows_are_rows_and_can_be_computed_again(batch: Cli) -> None:
    Path("in.txt").write_text(lines())
    code, _, err = batch("in.txt", "-o", "out.jsonl", engine=failing_on("3"))
    assert code == 3
    assert "1 failed" in err
    assert [bool(row["error"]) for row in read("out.jsonl")] == [False] * 3 + [True, False]
    assert batch("in.txt", "-o", "out.jsonl", engine=failing_on("9"))[0] == 3  # they stay
    assert batch("in.txt", "-o", "out.jsonl", "--retry-failed", engine=failing_on("9"))[0] == 0
    assert [row["text"] for row in read("out.jsonl")] == [f"ROW {n}" for n in range(5)]


def test_too_many_failures_stop_it(batch: Cli) -> None:
    Path("in.txt").write_text(lines(50))
    code, _, err = batch(
        "in.txt", "-o", "out.jsonl", "--max-failures", "2", "-b", "1", engine=failing_on("row")
    )
    assert code == 3
    assert "--max-failures allows 2" in err
    assert len(read("out.jsonl")) == 3


def test_the_summary_is_json(batch: Cli) -> None:
    Path("in.txt").write_text("a\n\nb\n")
    batch("in.txt", "-o", "out.jsonl", "--summary", "sum.json", "-q")
    summary = json.loads(Path("sum.json").read_text())
    assert (summary["rows"], summary["failed"], summary["seed"]) == (3, 1, 1)


def test_a_dry_run_counts_and_writes_nothing(batch: Cli) -> None:
    Path("in.txt").write_text("a\n\n" + "long " * 100 + "\n")
    code, out, _ = batch("in.txt", "-o", "out.jsonl", "--dry-run")
    found = json.loads(out)
    assert (code, found["rows"], found["unusable"], found["too_long"]) == (0, 3, 1, 1)
    assert found["seconds"] is not None
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("args", "code", "what"),
    [
        (("none.txt",), 66, "none.txt"),
        (("in.txt", "-b", "0"), 2, "--batch-size"),
        (("in.txt", "-b", "many"), 2, "--batch-size"),
        (("in.txt", "--set", "to=fr"), 2, "--set"),
        (("in.txt", "--task", "transl"), 2, "Did you mean translate"),
        (("in.txt", "--task", "translate", "--set", "too=fr"), 2, "NAME=VALUE"),
        (("in.txt", "--task", "summarize", "--set", "sentences=x"), 2, "no integer"),
        (("in.txt", "--address", "auto"), 2, "--runner ray"),
        (("in.txt", "--force", "--retry-failed", "-o", "o.jsonl"), 2, "contradict"),
        (("in.txt", "-o", "/nowhere/o.jsonl"), 73, "/nowhere"),
        (("in.csv", "--column", "none"), 2, "none"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(
    batch: Cli, args: tuple[str, ...], code: int, what: str
) -> None:
    Path("in.txt").write_text("a\n")
    Path("in.csv").write_text("text\na\n")
    found, _, err = batch(*args, engine=FakeEngine(error=BadInput("asked")))
    assert found == code, err
    assert what in err
    assert "asked" not in err


def test_a_server_that_throttles_stalls_and_breaks_down_still_gets_every_row_done(
    main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text(lines(30))
    with FakeServer() as server:
        server.reply = lambda body, index: f" to {body['prompt']}"
        server.plan = [
            failing(429, **{"Retry-After": "0"}),
            failing(500),
            hanging_up,
            failing(422, "no such thing"),  # for one row only
            failing(503),
        ] * 2
        code = main_in(
            "batch", "in.txt", "-o", "out.jsonl", "--server", server.url, "-b", "5", "--seed", "1"
        )[0]
        assert server.most <= 5
    rows = read("out.jsonl")
    assert code == 3
    assert [row["id"] for row in rows] == [str(n) for n in range(30)]
    failed = [row for row in rows if row["error"]]
    assert len(failed) == 2
    assert all("no such thing" in str(row["error"]) for row in failed)
    assert {row["text"] for row in rows if not row["error"]} <= {f" to row {n}" for n in range(30)}


def test_the_time_left_is_told_where_rows_can_be_counted() -> None:
    tally = Tally(total=100, kept=20, rows=40, started=time.perf_counter() - 10)
    assert tally.left == pytest.approx(10, rel=0.01)
    assert "60 of 100 rows, 4.0 rows/s" in tally.line()
    assert "0:10 left" in tally.line()


# The real thing


def command(folder: Path, rows: int, *more: str) -> list[str]:
    (folder / "in.txt").write_text("".join(f"The {n} king\n" for n in range(rows)))
    return [*REAL, "batch", str(folder / "in.txt"), "-o", str(folder / "out.jsonl"), *MODEL, *more]


def test_killed_at_any_moment_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    count = 60 * max(1, ROUNDS // 4)  # enough that there is something to kill in every round
    start, whole = took(tmp_path / "one", 1), took(tmp_path / "calm", count)
    wanted = (tmp_path / "calm" / "out.jsonl").read_bytes()
    chance = random.Random(4)
    args = command(tmp_path, count, "-b", "2")
    killed = 0
    for _ in range(ROUNDS):
        process = subprocess.Popen(args, env=environment(), stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(start / 2, start + 2 * (whole - start) / ROUNDS))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    done = subprocess.run(args, env=environment(), capture_output=True, check=True)
    assert b"done" in done.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == wanted


def took(folder: Path, rows: int) -> float:
    """Seconds that a batch takes which nobody disturbs."""
    folder.mkdir()
    begun = time.monotonic()
    subprocess.run(command(folder, rows), env=environment(), check=True)
    return time.monotonic() - begun


def test_interrupted_it_tells_how_to_go_on(tmp_path: Path) -> None:
    args = command(tmp_path, 4000)
    process = subprocess.Popen(args, env=environment(), stderr=subprocess.PIPE)
    while not (tmp_path / "out.jsonl").exists() or not (tmp_path / "out.jsonl").stat().st_size:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert b"same command" in process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGINT
    rows = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == [str(n) for n in range(len(rows))]


def test_a_reader_that_leaves_ends_it(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(lines(2000))
    process = subprocess.Popen(
        [*REAL, "batch", str(tmp_path / "in.txt"), *TALES, "--max-new-tokens", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "0"
    process.stdout.close()
    assert process.wait(20) == -signal.SIGPIPE
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""


def test_a_full_disk_is_an_error_of_its_own(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    done = run(REAL, "batch", "-o", "/dev/full", *MODEL, stdin=b"Once\n")
    assert done.returncode == 74
