"""`run_batch` from Python: the durable batch of the command, without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from io import BytesIO
from pathlib import Path

import pytest
from support.commands import ROOT, environment
from support.fake_engine import INFO, FakeEngine
from support.fake_server import FakeServer

import gptcli
from gptcli import Load, Sampling
from gptcli.batch import Batch, BatchInput, BatchResult, Frame, Prompts, forecast_batch, run_batch
from gptcli.batch.run.tally import Tally
from gptcli.errors import (
    BadInput,
    CannotCreate,
    GptcliError,
    MissingInput,
    TooManyFailures,
    UsageError,
)
from gptcli.protocol import Engine

TALES = Load(model="tiny-tales", offline=True)
SEEDED = Sampling(seed=1, max_new_tokens=8)
Run = Callable[..., BatchResult]


class Shouting(FakeEngine):
    """Answers in capitals; a prompt with the word `bad` cannot be answered."""

    def __init__(self, bad: str = "bad") -> None:
        info = replace(INFO, context=99, notices=("fake numbers",))
        super().__init__(reply=lambda request: request.prompt.upper(), info=info, asked=[])
        self.bad = bad

    def _sequence(self, request, index):  # type: ignore[no-untyped-def]
        self.error = BadInput("refused") if self.bad in request.prompt else None
        return super()._sequence(request, index)

    @property
    def prompts(self) -> list[str]:
        """What was asked so far."""
        return [request.prompt for request in self.asked or []]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Shouting:
    """The engine that is opened in place of a model."""
    engine = Shouting()
    monkeypatch.setattr("gptcli.engines.open_engine", lambda *_, **__: engine)
    return engine


@pytest.fixture
def run(engine: Shouting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run_batch` in an empty folder, on that engine."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object, **options: object) -> BatchResult:
        return run_batch(*args, **{"load": TALES, "sampling": SEEDED, **options})  # type: ignore[arg-type]

    return run


def lines(count: int, bad: tuple[int, ...] = ()) -> str:
    return "".join(f"{'bad' if n in bad else 'row'} {n}\n" for n in range(count))


def read(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_every_row_is_answered_and_counted(run: Run) -> None:
    Path("in.txt").write_text(lines(3))
    done = run("in.txt", "out.jsonl")
    assert [row["text"] for row in read("out.jsonl")] == ["ROW 0", "ROW 1", "ROW 2"]
    assert (done.rows, done.written, done.kept, done.failed) == (3, 3, 0, 0)
    assert (done.output, done.seed, done.completion_tokens) == ("out.jsonl", 1, 6)
    assert done.seconds > 0
    assert done.to_dict()["rows"] == 3
    with pytest.raises(FrozenInstanceError):
        done.rows = 4  # type: ignore[misc]


def test_inputs_may_be_paths_folders_and_several(run: Run, tmp_path: Path) -> None:
    Path("a.txt").write_text("one\n")
    Path("texts").mkdir()
    Path("texts/b.md").write_text("two")
    run([tmp_path / "a.txt", "texts"], tmp_path / "out.jsonl")
    assert [row["text"] for row in read("out.jsonl")] == ["ONE", "TWO"]


def test_the_same_call_goes_on_after_a_part(run: Run, engine: Shouting) -> None:
    Path("in.txt").write_text(lines(6))
    run("in.txt", "whole.jsonl")
    run("in.txt", "out.jsonl")
    whole = Path("whole.jsonl").read_bytes()
    # As a kill leaves it: two rows and a piece of the third, and a manifest that says no more.
    manifest = Path(".out.jsonl.manifest.json")
    begun = json.loads(manifest.read_text()) | {"rows": None, "failed": None, "complete": False}
    manifest.write_text(json.dumps(begun))
    Path("out.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:2]) + b'{"key": "2:')
    assert engine.asked
    engine.asked.clear()
    notes: list[str] = []
    done = run("in.txt", "out.jsonl", note=notes.append)
    assert Path("out.jsonl").read_bytes() == whole
    assert engine.prompts == [f"row {n}" for n in range(2, 6)]
    assert (done.rows, done.kept, done.written) == (6, 2, 4)
    assert notes[0] == "out.jsonl: going on after 2 rows"


def test_a_complete_output_opens_no_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.txt").write_text(lines(3))
    run("in.txt", "out.jsonl")

    def opened(*_: object, **__: object) -> Engine:
        raise AssertionError

    monkeypatch.setattr("gptcli.engines.open_engine", opened)
    done = run("in.txt", "out.jsonl")
    assert (done.rows, done.kept, done.written) == (3, 3, 0)


def test_without_a_seed_that_of_the_output_is_taken(run: Run) -> None:
    Path("in.txt").write_text(lines(2))
    first = run("in.txt", "out.jsonl", sampling=None)
    assert run("in.txt", "out.jsonl", sampling=None).seed == first.seed


def test_a_row_that_fails_is_counted_and_can_be_tried_again(run: Run, engine: Shouting) -> None:
    Path("in.txt").write_text(lines(4, bad=(1, 2)))
    done = run("in.txt", "out.jsonl")
    assert (done.rows, done.failed) == (4, 2)
    assert [bool(row["error"]) for row in read("out.jsonl")] == [False, True, True, False]
    engine.bad = "bad 2"
    assert run("in.txt", "out.jsonl").failed == 2  # they stay
    again = run("in.txt", "out.jsonl", batch=Batch(retry_failed=True))
    assert (again.rows, again.kept, again.written, again.failed) == (4, 2, 2, 1)
    assert read("out.jsonl")[1]["text"] == "BAD 1"


def test_too_many_failures_are_raised_and_what_is_written_stays(run: Run) -> None:
    Path("in.txt").write_text(lines(9, bad=tuple(range(9))))
    with pytest.raises(TooManyFailures):
        run("in.txt", "out.jsonl", batch=Batch(max_failures=1, batch_size="1"))
    assert len(read("out.jsonl")) == 2


def test_a_task_runs_on_every_row_with_its_own_sampling(run: Run, engine: Shouting) -> None:
    Path("in.txt").write_text("Hallo.\n")
    task = Batch(task="translate", set=("from=de", "to=nl"), example=("Ja. = Ja.",))
    run("in.txt", "out.jsonl", batch=task, sampling=None)
    assert engine.asked
    assert engine.asked[0].sampling.temperature == 0
    assert "Hallo." in engine.prompts[0]
    assert read("out.jsonl")[0]["task"] == "translate"


def test_a_changed_input_is_refused_unless_it_is_allowed(run: Run, engine: Shouting) -> None:
    Path("in.txt").write_text(lines(3))
    run("in.txt", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    Path("in.txt").write_text("new\n" + lines(3))
    with pytest.raises(BadInput, match=r"in\.txt"):
        run("in.txt", "out.jsonl")
    assert Path("out.jsonl").read_bytes() == before
    assert engine.asked
    engine.asked.clear()
    done = run("in.txt", "out.jsonl", batch=Batch(allow_changed_input=True))
    assert engine.prompts == ["new"]
    assert (done.rows, done.failed) == (4, 0)


def test_other_settings_are_refused_and_force_starts_over(run: Run) -> None:
    Path("in.txt").write_text(lines(2))
    run("in.txt", "out.jsonl")
    other = replace(SEEDED, top_k=3)
    with pytest.raises(BadInput, match="top_k"):
        run("in.txt", "out.jsonl", sampling=other)
    assert run("in.txt", "out.jsonl", sampling=other, batch=Batch(force=True)).written == 2


def test_prompts_come_from_python_and_are_compared_when_it_goes_on(
    run: Run, engine: Shouting
) -> None:
    texts = ["one", "  ", "two"]
    done = run(Prompts(texts), "out.jsonl")
    assert (done.rows, done.failed) == (3, 1)
    assert [row["id"] for row in read("out.jsonl")] == ["0", "1", "2"]
    assert "prompt 2" in str(read("out.jsonl")[1]["error"])
    assert engine.asked
    engine.asked.clear()
    assert run(Prompts(iter(texts)), "out.jsonl").kept == 3
    assert engine.prompts == []
    with pytest.raises(BadInput, match="row 2"):
        run(Prompts(["one", "  ", "three"]), "out.jsonl")
    with pytest.raises(BadInput, match="had 3 rows"):
        run(Prompts(["one"]), "out.jsonl")


def test_prompts_are_taken_as_they_are_computed(run: Run, engine: Shouting) -> None:
    given: list[int] = []

    def endless() -> Iterator[str]:
        for number in range(10**9):
            given.append(number)
            yield "bad"

    with pytest.raises(TooManyFailures):
        run(Prompts(endless()), "out.jsonl", batch=Batch(max_failures=5))
    assert len(given) < 10_000


def test_one_text_is_no_list_of_prompts() -> None:
    with pytest.raises(UsageError, match="one text"):
        Prompts("abc")


def test_columns_and_formats_are_options(run: Run) -> None:
    Path("in.csv").write_text("number,review\n7,fine\n8,dull\n")
    reading = BatchInput(column="review", id_column="number")
    run("in.csv", "out.csv", reading=reading)
    assert Path("out.csv").read_text().splitlines()[1].split(",")[1] == "7"


def test_a_function_takes_the_rows_in_place_of_a_file(run: Run) -> None:
    Path("in.txt").write_text(lines(2))
    sent: list[str] = []
    done = run("in.txt", sent.append)
    assert [json.loads(line)["text"] for line in sent] == ["ROW 0", "ROW 1"]
    assert (done.output, done.rows) == (None, 2)
    assert [path.name for path in Path().iterdir()] == ["in.txt"]


def test_standard_input_is_a_stream_that_is_given(run: Run) -> None:
    run("-", "out.jsonl", frame=Frame(stdin=BytesIO(b"a\nb\n")))
    assert [row["text"] for row in read("out.jsonl")] == ["A", "B"]
    with pytest.raises(MissingInput, match="standard input"):
        run("-", "other.jsonl")


def test_callbacks_see_every_row_and_every_notice(run: Run) -> None:
    Path("in.txt").write_text(lines(3, bad=(1,)))
    seen: list[tuple[int, int, int | None]] = []
    notes: list[str] = []

    def watch(tally: Tally) -> None:
        seen.append((tally.rows, tally.failed, tally.total))

    run("in.txt", "out.jsonl", watch=watch, note=notes.append)
    assert seen == [(1, 0, 3), (2, 1, 3), (3, 1, 3)]
    assert notes == ["fake numbers"]
    seen.clear()
    run(Prompts(["x"]), "other.jsonl", watch=watch)
    run(Prompts(iter(["x"])), "third.jsonl", watch=watch)
    assert seen == [(1, 0, 1), (1, 0, None)]


def test_a_frame_is_entered_around_what_takes_long(run: Run) -> None:
    Path("in.txt").write_text(lines(1))
    events: list[str] = []

    @contextmanager
    def waiting(text: str) -> Iterator[None]:
        events.append(text)
        yield
        events.append("there")

    @contextmanager
    def computing() -> Iterator[Callable[[Engine, int, bool], Engine]]:
        events.append("begun" if Path("out.jsonl").exists() else "too early")

        def substitute(engine: Engine, slots: int, beams: bool) -> Engine:
            assert slots >= 1
            assert not beams
            return FakeEngine(("other",))

        yield substitute
        events.append("done")

    run("in.txt", "out.jsonl", frame=Frame(waiting=waiting, computing=computing))
    looking, loading = "looking for tiny-tales", "loading tiny-tales"
    assert events == [looking, "there", "begun", loading, "there", "done"]
    assert read("out.jsonl")[0]["text"] == "other"


def test_an_exception_of_a_callback_leaves_an_output_to_go_on_with(
    run: Run, engine: Shouting
) -> None:
    Path("in.txt").write_text(lines(4))

    def stop(tally: Tally) -> None:
        if tally.rows == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("in.txt", "out.jsonl", watch=stop)
    assert len(read("out.jsonl")) == 2
    assert run("in.txt", "out.jsonl").kept == 2


@pytest.mark.parametrize(
    ("inputs", "output", "options", "error", "what"),
    [
        ("none.txt", "out.jsonl", {}, MissingInput, "none.txt"),
        ("in.txt", "-", {}, UsageError, "function"),
        ("in.txt", os.devnull, {}, UsageError, "function"),
        ("in.txt", "nowhere/out.jsonl", {}, CannotCreate, "nowhere"),
        ("in.txt", "out.jsonl", {"batch": Batch(dry_run=True)}, UsageError, "forecast_batch"),
        ("in.txt", "out.jsonl", {"batch": Batch(task="transl")}, UsageError, "transl"),
        ("in.txt", "out.jsonl", {"load": Load(model="./none")}, MissingInput, "none"),
    ],
)
def test_what_cannot_be_is_raised_before_a_model_is_opened(
    run: Run,
    engine: Shouting,
    inputs: str,
    output: str,
    options: dict[str, object],
    error: type[GptcliError],
    what: str,
) -> None:
    Path("in.txt").write_text(lines(1))
    with pytest.raises(error) as raised:
        run(inputs, output, **options)
    found = raised.value
    assert what in f"{found.what} {found.why} {found.hint}"
    assert engine.prompts == []
    assert not Path("out.jsonl").exists()


def test_a_forecast_counts_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    Path("in.txt").write_text("a\n\n" + "long " * 100 + "\n")
    found = forecast_batch("in.txt", load=TALES, sampling=SEEDED)
    assert (found.rows, found.unusable, found.too_long) == (3, 1, 1)
    assert found.seconds is not None
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_a_server_answers_in_place_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text(lines(3))
    with FakeServer() as server:
        server.reply = lambda body, index: f" to {body['prompt']}"
        done = run_batch("in.txt", "out.jsonl", load=Load(server=server.url), sampling=SEEDED)
    assert (done.rows, done.failed) == (3, 0)
    assert [row["text"] for row in read("out.jsonl")] == [f" to row {n}" for n in range(3)]


def test_nothing_is_printed(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in.txt").write_text(lines(3, bad=(1,)))
    run("in.txt", "out.jsonl")
    run("in.txt", "out.jsonl", batch=Batch(retry_failed=True))
    forecast_batch("in.txt", load=TALES)
    with pytest.raises(BadInput):
        run("in.txt", "out.jsonl", reading=BatchInput(null=True))
    assert capfd.readouterr() == ("", "")


def test_it_is_a_public_name() -> None:
    assert gptcli.run_batch is run_batch
    assert (gptcli.Batch, gptcli.BatchResult) == (Batch, BatchResult)
    with pytest.raises(AttributeError):
        gptcli.batch.nothing  # type: ignore[attr-defined]  # noqa: B018


# The real thing

PROGRAM = """
from gptcli import Batch, Load, Sampling, run_batch
done = run_batch(
    "in.txt",
    "out.jsonl",
    batch=Batch(workers={workers}),
    load=Load(model="tiny-tales", offline=True),
    sampling=Sampling(seed=1, max_new_tokens=8),
)
assert (done.rows, done.failed) == (4, 0)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_python_and_the_command_write_the_same_bytes_and_only_into_the_output(
    tmp_path: Path, main_in: Callable[..., tuple[int, str, str]], workers: int
) -> None:
    (tmp_path / "in.txt").write_text("".join(f"The {n} king\n" for n in range(4)))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(workers=workers)],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    args = ("-m", "tiny-tales", "--offline", "--seed", "1", "--max-new-tokens", "8")
    there = str(tmp_path / "command.jsonl")
    assert main_in("batch", str(tmp_path / "in.txt"), "-o", there, *args)[0] == 0
    assert (tmp_path / "out.jsonl").read_bytes() == Path(there).read_bytes()
