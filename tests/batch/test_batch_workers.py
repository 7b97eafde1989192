"""Several processes: the same texts as one, no row lost when one dies, and none left behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine

from gptcli.batch.input.row import Row, digest
from gptcli.batch.run import child, processes, workers
from gptcli.batch.run.width import Width
from gptcli.batch.run.work import Done, Work, answered
from gptcli.errors import BadInput, BadModel, GptcliError, MissingInput, Unavailable
from gptcli.options import Load, Sampling
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import chosen
from gptcli.tasks.prompts import Wording, worded

ROOT = Path(__file__).parent.parent.parent
WORDS = ["Once upon a time", "The king", "A fox", "He rode away", "Whoever brings the bird"]
# A worker whose engine writes capitals at once, but for some prompts that tell it what to do.
FAKE = """
import os, re, signal, sys, time
sys.path[:] = sys.argv[2:]
from gptcli.batch.run import child
from gptcli.batch.run.width import Width
from gptcli.errors import BadModel, Unavailable
from support.fake_engine import FakeEngine

def reply(request):
    prompt = request.prompt
    flag = prompt.partition(":")[2]
    if prompt.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt.startswith("once:") and not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt.startswith("sleep:"):
        time.sleep(float(flag))
    if prompt.startswith("bug"):
        raise ZeroDivisionError("of the engine")
    if prompt.startswith("refuse"):
        raise Unavailable("device", "it is gone", "Plug it in.")
    return prompt.upper() + " " + str(os.getpid())

def opened(orders):
    START
    return FakeEngine(reply=reply), Width(WIDTH, WIDTH)

child.opened = opened
child.serve(int(sys.argv[1]))
"""


def rows_of(texts: Iterable[str]) -> list[Row]:
    return [Row(n, digest(text.encode()), f"id{n}", text) for n, text in enumerate(texts)]


def with_seed(load: Load, **changes: object) -> Work:
    return Work(load, Sampling(seed=7, temperature=1.2, max_new_tokens=12), batch_size=4, **changes)


def sorted_records(done: Iterable[Done]) -> list[dict[str, object]]:
    return [dict(one.record) for one in sorted(done, key=lambda one: one.row.number)]


def children() -> set[int]:
    """Process numbers of this process's children, as the kernel lists them."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        found |= {int(number) for number in path.read_text().split()}
    return found


def gone(number: int, seconds: float = 2.0) -> bool:
    """Whether a process ends within this time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


Fake = Callable[..., Iterator[Done]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tales: Path) -> Fake:
    """`answered` with workers that need no torch; `start` is what they do instead of loading."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests"), str(ROOT), *sys.path])

    def run(
        rows: Iterable[Row | None],
        count: int = 2,
        start: str = "pass",
        width: int = 4,
        wording: Wording | None = None,
    ) -> Iterator[Done]:
        program = FAKE.replace("START", start).replace("WIDTH", str(width))
        monkeypatch.setattr(processes, "START", program)
        work = replace(with_seed(Load(model=str(tales))), wording=wording)
        return workers.answered(work, iter(rows), count)

    return run


def text_of(done: Done) -> str:
    return str(done.record["text"])


@pytest.fixture(scope="module")
def forty() -> list[Row]:
    rows = rows_of(f"{WORDS[n % len(WORDS)]} {n}" for n in range(40))
    rows[5] = replace(rows[5], text="", error=BadInput("rows line 6", "it is not JSON", "Mend it."))
    rows[6] = replace(rows[6], overrides={"seed": 3, "max_new_tokens": 5})
    return rows


@pytest.fixture(scope="module")
def here(tiny: Path, forty: list[Row]) -> list[dict[str, object]]:
    """The records of one process."""
    work = with_seed(Load(model=str(tiny)))
    engine, width = child.opened(child.Orders(work, 4))
    return sorted_records(answered(engine, work, iter(forty), width))


@pytest.mark.parametrize("count", [1, 2])
def test_workers_write_what_one_process_writes(
    tiny: Path, forty: list[Row], here: list[dict[str, object]], count: int
) -> None:
    there = list(workers.answered(with_seed(Load(model=str(tiny))), iter(forty), count))
    assert sorted_records(there) == here
    assert {one.row.number: one.row for one in there} == dict(enumerate(forty))


def test_three_workers_of_which_two_are_killed_write_the_same(
    tiny: Path, forty: list[Row], here: list[dict[str, object]]
) -> None:
    before = children()
    finished = workers.answered(with_seed(Load(model=str(tiny))), iter(forty), 3)
    there = [next(finished)]
    for victim in sorted(children() - before)[:2]:
        os.kill(victim, signal.SIGKILL)
    there += finished
    assert sorted_records(there) == here
    assert children() == before


def test_a_task_is_answered_as_by_one_process(fake: Fake) -> None:
    task = catalog.find("classify")
    wording = worded(task, chosen(task, {"labels": ("good", "worse")}))
    rows = rows_of(f"It was {n}" for n in range(30))
    work = replace(with_seed(Load()), wording=wording)
    here = sorted_records(answered(FakeEngine(), work, iter(rows), Width(4, 4)))
    there = list(fake(rows, wording=wording))
    assert sorted_records(there) == here
    assert here[0]["text"] == "good"


def test_the_parent_does_not_import_torch(tales: Path) -> None:
    program = f"""
import sys
from gptcli.batch.run import workers
from gptcli.batch.input.row import Row
from gptcli.batch.run.work import Work
from gptcli.options import Load, Sampling
work = Work(Load(model={str(tales)!r}), Sampling(seed=1, max_new_tokens=2), batch_size=1)
done = list(workers.answered(work, iter([Row(0, "0" * 64, "a", "Once")]), 1))
print(done[0].record["error"], "torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (ran.stdout, ran.stderr) == ("None False\n", "")


def test_a_worker_does_not_import_the_command_line(fake: Fake) -> None:
    start = "assert not [name for name in sys.modules if name.startswith('gptcli.cli')]"
    assert len(list(fake(rows_of(["a"]), 1, start))) == 1


def test_all_workers_get_rows(fake: Fake) -> None:
    rows = rows_of(f"sleep:{0.02 + n / 1e6}" for n in range(40))
    done = list(fake(rows, 2))
    share = [text_of(one).split()[-1] for one in done]
    assert len(set(share)) == 2
    assert all(share.count(number) >= 8 for number in set(share))


def test_rows_are_pulled_only_as_there_is_room(fake: Fake) -> None:
    pulled = 0

    def endless() -> Iterator[Row]:
        nonlocal pulled
        while True:
            pulled += 1
            yield Row(pulled, "0" * 64, str(pulled), "sleep:0.01")

    finished = fake(endless(), 2, width=3)
    for _ in range(20):
        next(finished)
    assert pulled <= 20 + 2 * 2 * 3
    finished.close()


def test_none_is_a_pause_and_not_the_end(fake: Fake) -> None:
    a, b = rows_of(["a", "b"])
    assert len(list(fake([None, a, None, None, None, b, None]))) == 2


def test_a_row_answered_while_none_follows_is_given_out(fake: Fake) -> None:
    open_end = [False]

    def slowly() -> Iterator[Row | None]:
        yield rows_of(["good morning"])[0]
        while not open_end[0]:
            yield None

    task = catalog.find("summarize")
    finished = fake(slowly(), 2, wording=worded(task, chosen(task, {})))
    assert next(finished).row.number == 0
    open_end[0] = True
    assert list(finished) == []


def test_no_rows_at_all_need_no_worker(fake: Fake) -> None:
    assert list(fake([], start="raise SystemExit(9)")) == []


def test_a_row_that_kills_becomes_an_error_and_those_beside_it_do_not(fake: Fake) -> None:
    rows = rows_of(["a", "b", "die", "c", "d", "e", "f", "g", "h", "die too", "i"])
    done = {one.row.number: one for one in fake(rows, 2)}
    assert sorted(done) == list(range(11))
    assert {number for number, one in done.items() if one.failed} == {2, 9}
    assert done[2].row == rows[2]
    error = done[2].record["error"]
    assert error["type"] == "Unavailable"
    assert error["message"] == (
        "row id2: a worker died (SIGKILL) each of the 3 times that it was computed"
    )
    assert "--retry-failed" in error["hint"]


def test_a_row_whose_worker_was_killed_once_is_answered(fake: Fake, tmp_path: Path) -> None:
    rows = rows_of(["a", f"once:{tmp_path / 'flag'}", "b"])
    done = list(fake(rows, 1))
    assert [one.failed for one in done] == [False] * 3
    assert (tmp_path / "flag").exists()


def test_workers_that_die_at_the_start_are_an_error(fake: Fake) -> None:
    before = children()
    with pytest.raises(Unavailable, match=r"a worker died \(SIGKILL\).*fewer --workers"):
        list(fake(rows_of(["a"]), 2, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert children() == before


def test_a_workers_refusal_is_raised_as_the_same_error(fake: Fake) -> None:
    start = "raise BadModel('m', 'tensors are missing', 'Get it again.')"
    with pytest.raises(BadModel) as caught:
        list(fake(rows_of(["a"]), 2, start))
    assert str(caught.value) == "m: tensors are missing. Get it again."


def test_what_ends_all_in_one_process_ends_all(fake: Fake) -> None:
    with pytest.raises(Unavailable, match="it is gone"):
        list(fake(rows_of(["a", "refuse", "b"])))


def test_a_bug_in_a_worker_shows_its_traceback(fake: Fake) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: of the engine"):
        list(fake(rows_of(["a", "bug", "b"])))


def test_a_missing_model_is_found_before_a_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "started", pytest.fail)
    work = with_seed(Load(model=str(tmp_path / "nowhere")))
    with pytest.raises(MissingInput):
        list(workers.answered(work, iter(rows_of(["a"])), 2))


def test_an_error_while_rows_are_read_is_raised_and_leaves_no_process(fake: Fake) -> None:
    def broken() -> Iterator[Row]:
        yield from rows_of(["a", "b"])
        raise BadInput("rows.gz", "it is cut short", "Get it again.")

    before = children()
    with pytest.raises(BadInput):
        list(fake(broken()))
    assert children() == before


def test_closing_ends_workers_that_are_busy(fake: Fake) -> None:
    before = children()
    finished = fake(rows_of(["a", "sleep:60", "sleep:60.5", "b"]), 2, width=1)
    next(finished)
    started = children() - before
    assert len(started) == 2
    begun = time.monotonic()
    finished.close()
    assert time.monotonic() - begun < 2
    assert children() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_do_not_outlive_a_parent_ended_by(number: signal.Signals, tales: Path) -> None:
    program = FAKE.replace("START", "pass").replace("WIDTH", "1")
    parent = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from gptcli.batch.run import processes, workers
from gptcli.batch.input.row import Row
from gptcli.batch.run.work import Work
from gptcli.options import Load, Sampling
processes.START = {program!r}
rows = [Row(n, "0" * 64, str(n), t) for n, t in enumerate(["a", "sleep:60", "sleep:60.5"])]
work = Work(Load(model={str(tales)!r}), Sampling(seed=1), batch_size=1)
finished = workers.answered(work, iter(rows), 2)
next(finished)
print(Path("/proc/self/task/" + str(__import__("os").getpid()) + "/children").read_text())
sys.stdout.flush()
next(finished)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        started = [int(pid) for pid in process.stdout.readline().split()]
        assert len(started) == 2
        process.send_signal(number)
        assert all(gone(pid) for pid in started)
        process.communicate(timeout=10)


def test_interrupt_of_the_terminals_group_reaches_no_worker(fake: Fake) -> None:
    before = children()
    finished = fake(rows_of(["a", "b"]), 1)
    next(finished)
    [worker] = children() - before
    assert os.getpgid(worker) == worker != os.getpgid(0)
    finished.close()


@pytest.mark.parametrize(
    ("threads", "variable", "expected"),
    [(None, None, 2), (3, None, 3), (None, "1", None)],
    ids=["a share of the processors", "as asked for", "as OpenMP is told"],
)
def test_threads_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, variable: str | None, expected: int | None
) -> None:
    monkeypatch.setattr(processes, "usable_cores", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    work = processes.shared(with_seed(Load(threads=threads)), 2)
    assert work.load.threads == expected


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", "0,1", ["0", "1", "0"]),
        ("cuda", "4,7,9", ["4", "7", "9"]),
        ("auto", "2", ["2", "2", "2"]),
        ("cpu", "0,1", ["0,1"] * 3),
        ("auto", "", [""] * 3),
    ],
)
def test_each_worker_sees_its_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    seen = [processes.environment(Load(device=device), n)["CUDA_VISIBLE_DEVICES"] for n in range(3)]
    assert seen == expected


@pytest.mark.parametrize("error", [None, BadInput("row", "it is empty", "Write something.")])
def test_what_goes_to_and_fro_can_be_pickled(error: GptcliError | None) -> None:
    row = Row(3, "0" * 64, "x", "text", {"top_p": 0.5}, error)
    done = pickle.loads(pickle.dumps(Done(row, {"error": error and error.to_dict()}, 1, 2)))
    assert done.row.key == row.key
    assert str(done.row.error) == str(error)
    assert json.dumps(done.record) == json.dumps({"error": error and error.to_dict()})
    if error is None:
        assert done == Done(row, {"error": None}, 1, 2)


def test_a_pinned_model_is_one_that_others_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pinned = child.pinned(Work(Load(), Sampling(seed=1)))
    assert pinned.load == Load(model="tiny-tales")
