"""An output survives whatever ends a run: kill -9, a full disk, another process.

`GPTCLI_KILL_ROUNDS` and `GPTCLI_KILL_SEED` set how often a run is killed, and when.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import environment
from support.journal_child import changed, manifest, record, rows, texts, work

from gptcli.batch.output.opening import open_changed, open_journal, open_retry
from gptcli.errors import Busy, CannotCreate, GptcliError, WriteFailed

CHILD = [sys.executable, str(Path(__file__).parent.parent / "support" / "journal_child.py")]
# Read here, as no test sees the variables of the user's.
ROUNDS = int(os.environ.get("GPTCLI_KILL_ROUNDS", "25"))
SEED = int(os.environ.get("GPTCLI_KILL_SEED", str(random.SystemRandom().randrange(10**6))))
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
UNSHARED = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(autouse=True)
def _quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing takes most of the time, and only a power cut would tell."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None, raising=False)


def start(*args: object, **streams: int) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    return subprocess.Popen(
        [*CHILD, *map(str, args)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **streams,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, dict[str, object]]:
    """Exit code and error of a run."""
    out, err = process.communicate(timeout=60)
    assert not err, err
    return process.returncode, json.loads(out.splitlines()[-1]) if process.returncode else {}


def undisturbed(folder: Path, name: str, count: int, failing: bool = False) -> Path:
    """An output that was made in one go."""
    folder.mkdir()
    inputs = texts(count)
    assert work(open_journal(folder / name, manifest(inputs)), inputs, failing=failing) == count
    return folder / name


def lines(output: bytes) -> list[dict[str, object]]:
    """The rows of an output."""
    return [json.loads(line) for line in output.splitlines()]


def test_no_row_is_lost_doubled_or_torn_by_kill_9(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    expected = undisturbed(tmp_path / "one", "out.jsonl", 200).read_bytes()
    output = tmp_path / "out.jsonl"
    killed = finished = 0
    while killed < ROUNDS:
        before = output.stat().st_size if output.exists() else 0
        process = start(output, "--rows", 200, "--pause", 0.0005, "--ahead", 8)
        time.sleep(dice.uniform(0.04, 0.2))
        process.kill()
        process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            killed += 1
        else:
            assert process.returncode == 0
        there = output.read_bytes() if output.exists() else b""
        assert expected.startswith(there), f"seed {SEED}, kill {killed}"
        assert len(there) >= before - 6000, f"seed {SEED}, kill {killed}: more than a torn row went"
        if there == expected:
            finished += 1
            assert ended(start(output, "--rows", 200)) == (0, {})
            assert output.read_bytes() == expected
            output.unlink()
    assert ended(start(output, "--rows", 200)) == (0, {})
    assert output.read_bytes() == expected, f"seed {SEED}"


def test_a_kill_costs_no_more_rows_than_were_under_way(tmp_path: Path) -> None:
    output, inputs = tmp_path / "out.jsonl", texts(30)
    computed = 0

    def kill_sometimes() -> None:
        nonlocal computed
        computed += 1
        if computed % 10 == 0:
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            work(open_journal(output, manifest(inputs)), inputs, pause=kill_sometimes)
    assert work(open_journal(output, manifest(inputs)), inputs) == 0
    assert computed == 30


def begin_at(folder: Path, mode: str, name: str) -> Path:
    """The files that a run of this mode begins with; gives what it must end with."""
    expected, before = folder / "expected", folder / "before"
    inputs = texts(5)
    if mode == "open":
        before.mkdir()
        return undisturbed(expected, name, 2)
    if mode == "force":
        before.mkdir()  # other rows of the same inputs, which would be taken for the new ones
        other = manifest(inputs, model="other")
        work(open_journal(before / name, other), inputs, failing=True)
        return undisturbed(expected, name, 5)
    if mode == "retry":
        undisturbed(before, name, 5, failing=True)
        return undisturbed(expected, name, 5)
    expected.mkdir()
    work(open_journal(expected / name, manifest(changed(inputs))), changed(inputs))
    undisturbed(before, name, 5)
    return expected / name


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("mode", ["open", "force", "retry"])
def test_a_run_may_die_at_every_call_that_changes_the_disk(
    tmp_path: Path, mode: str, name: str
) -> None:
    expected = begin_at(tmp_path, mode, name).read_bytes()
    flags = ["--force"] if mode == "force" else []
    process = start(
        tmp_path / name,
        *("--mode", "retry" if mode == "retry" else "open", *flags),
        *("--rows", 2 if mode == "open" else 5),
        *("--moments", tmp_path / "before"),
    )
    out, err = process.communicate(timeout=120)
    assert not err, err
    moments = [json.loads(line) for line in out.splitlines() if b'"folder"' in line]
    assert len(moments) > 40
    assert [moment["died"] for moment in moments] == [True] * (len(moments) - 1) + [False]
    for moment in moments:
        folder = Path(moment["folder"])
        assert moment["code"] == 0, moment
        assert (folder / name).read_bytes() == expected, moment
        assert {path.name for path in folder.iterdir()} == {name, f".{name}.manifest.json"}, moment


def test_a_run_over_a_changed_input_may_die_at_every_call(tmp_path: Path) -> None:
    expected = begin_at(tmp_path, "changed", "out.jsonl").read_bytes()
    process = start(tmp_path / "out.jsonl", "--mode", "changed", "--moments", tmp_path / "before")
    out, err = process.communicate(timeout=120)
    assert not err, err
    moments = [json.loads(line) for line in out.splitlines()]
    assert len(moments) > 40
    for moment in moments:
        assert moment["code"] == 0, moment
        found = lines((Path(moment["folder"]) / "out.jsonl").read_bytes())
        assert [(one["key"], one["id"], one["text"]) for one in found] == [
            (one["key"], one["id"], one["text"]) for one in lines(expected)
        ], moment


class Fault:
    """From the n-th of the calls on, each fails, or only that one."""

    def __init__(self, number: int, code: int, for_ever: bool) -> None:
        self.number, self.code, self.for_ever = number, code, for_ever
        self.count = 0

    def __call__(self, call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **named: object) -> object:
            self.count += 1
            if self.count == self.number or (self.for_ever and self.count > self.number):
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **named)

        return instead


def faulty_runs(
    monkeypatch: pytest.MonkeyPatch, code: int, for_ever: bool, run: Callable[[int], None]
) -> Iterator[tuple[int, GptcliError | None]]:
    """Run with the n-th call failing, n = 1, 2, 3 ... until nothing does."""
    for number in range(1, 500):
        fault = Fault(number, code, for_ever)
        failure = None
        with monkeypatch.context() as patch:
            for name in ("open", "write", "ftruncate", "replace"):
                patch.setattr(os, name, fault(getattr(os, name)))
            for name in ("fsync", "fdatasync"):  # not really: it takes long
                patch.setattr(os, name, fault(lambda descriptor: None), raising=False)
            try:
                run(number)
            except GptcliError as error:
                failure = error
        yield number, failure
        if fault.count < number:
            return
    pytest.fail("it never succeeded")


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_every_failing_call_ends_in_74_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, for_ever: bool
) -> None:
    expected = undisturbed(tmp_path / "one", name, 5)
    as_lines = undisturbed(tmp_path / "lines", "out.jsonl", 5).read_bytes()
    inputs = texts(5)

    def run(number: int) -> None:
        output = tmp_path / str(number) / name
        output.parent.mkdir()
        work(open_journal(output, manifest(inputs), fsync="row"), inputs)

    failures = 0
    for number, failure in faulty_runs(monkeypatch, code, for_ever, run):
        folder = tmp_path / str(number)
        kept = folder / (name if name == "out.jsonl" else f".{name}.journal.jsonl")
        if failure is not None:
            failures += 1
            assert isinstance(failure, WriteFailed), (number, failure)
            assert as_lines.startswith(kept.read_bytes() if kept.exists() else b""), number
            work(open_journal(folder / name, manifest(inputs)), inputs)
        assert (folder / name).read_bytes() == expected.read_bytes(), number
        assert {path.name for path in folder.iterdir()} == {name, f".{name}.manifest.json"}
    assert failures > 20


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
def test_a_retry_whose_n_th_call_fails_keeps_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_ever: bool
) -> None:
    inputs, expected = texts(5), undisturbed(tmp_path / "one", "out.jsonl", 5).read_bytes()
    former = undisturbed(tmp_path / "failed", "out.jsonl", 5, failing=True)

    def run(number: int) -> None:
        output = tmp_path / str(number) / "out.jsonl"
        output.parent.mkdir()
        for file in former.parent.iterdir():
            (output.parent / file.name).write_bytes(file.read_bytes())
        work(open_retry(output, manifest(inputs), fsync="row"), inputs)

    for number, failure in faulty_runs(monkeypatch, errno.ENOSPC, for_ever, run):
        output = tmp_path / str(number) / "out.jsonl"
        if failure is not None:
            assert isinstance(failure, WriteFailed), (number, failure)
            assert output.read_bytes() in (former.read_bytes(), expected), number
            work(open_retry(output, manifest(inputs)), inputs)
        assert output.read_bytes() == expected, number


def test_after_a_failed_write_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = texts(3)
    output = tmp_path / "out.jsonl"
    journal = open_journal(output, manifest(inputs), fsync="row")
    first, second, _ = rows(inputs)
    journal.skip(first)
    journal.skip(second)
    journal.append(first, record(first))
    before = output.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", Fault(1, errno.EIO, False)(os.fsync), raising=False)
        with pytest.raises(WriteFailed, match="1 row is saved"):
            journal.append(second, record(second))
    with pytest.raises(AssertionError):
        journal.append(second, record(second))
    journal.close()
    assert output.read_bytes().startswith(before)


def test_a_half_written_row_is_cut_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = texts(2)
    output = tmp_path / "out.jsonl"
    journal = open_journal(output, manifest(inputs))
    first, second = rows(inputs)
    journal.skip(first)
    journal.skip(second)
    journal.append(first, record(first))
    before, write = output.read_bytes(), os.write
    calls = []

    def half(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(WriteFailed) as caught:
            journal.append(second, record(second))
    journal.close()
    assert len(calls) == 2
    assert caught.value.why == "no space left on device; 1 row is saved"
    assert "run the same command again" in caught.value.hint
    assert output.read_bytes() == before


@pytest.mark.parametrize("limit", [1, 300, 5000, 11000, 40000])
def test_a_file_that_may_not_grow_ends_in_74(tmp_path: Path, limit: int) -> None:
    expected = undisturbed(tmp_path / "one", "out.jsonl", 100).read_bytes()
    output = tmp_path / "out.jsonl"
    code, error = ended(start(output, "--rows", 100, "--limit", limit))
    assert code == 74
    assert "too large" in str(error["why"])
    there = output.read_bytes() if output.exists() else b""
    assert expected.startswith(there)
    if there:
        saved = there.count(b"\n")
        assert f"; {saved} rows are saved" in str(error["why"])
    assert ended(start(output, "--rows", 100)) == (0, {})
    assert output.read_bytes() == expected


def test_a_full_file_system_ends_in_74(tmp_path: Path) -> None:
    """In a mount namespace of its own, which goes with its last process."""
    script = 'mount -t tmpfs -o size=64k tmpfs "$1" || exit 99; cd "$1"; shift; "$@"; code=$?; '
    script += f"cp out.jsonl {tmp_path}; exit $code"
    small = tmp_path / "small"
    small.mkdir()
    command = [*CHILD, "out.jsonl", "--rows", "400"]
    try:
        run = subprocess.run(
            [*UNSHARED, "sh", "-c", script, "sh", small, *command],
            capture_output=True,
            env=environment(),
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if not run.stdout:
        pytest.skip(f"no file system can be mounted here: {run.stderr.decode()}")
    assert run.returncode == 74
    saved = (tmp_path / "out.jsonl").read_bytes()
    assert saved.endswith(b"}\n")
    why = json.loads(run.stdout)["why"]
    assert why == f"no space left on device; {saved.count(bytes([10]))} rows are saved"


def test_of_many_processes_one_runs_and_the_others_are_busy(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    many = [start(output, "--rows", 40, "--hold", stdin=subprocess.PIPE) for _ in range(20)]
    running, busy = [], []
    for process in many:
        said = process.stdout.readline()
        (running if said == b"held\n" else busy).append((process, said))
    assert (len(running), len(busy)) == (1, 19)
    holder = running[0][0]
    for process, said in busy:
        error = json.loads(said)
        assert (error["type"], error["exit"]) == ("Busy", 75)
        assert f"process {holder.pid} writes to it" in error["why"]
        process.communicate(timeout=60)
        assert process.returncode == 75
    holder.communicate(b"\n", timeout=60)
    assert holder.returncode == 0
    assert output.read_bytes() == undisturbed(tmp_path / "one", "out.jsonl", 40).read_bytes()


def test_a_busy_output_is_refused_within_a_second(tmp_path: Path) -> None:
    output, inputs = tmp_path / "out.jsonl", texts(2)
    with open_journal(output, manifest(inputs)):
        (tmp_path / ".out.jsonl.lock").write_bytes(b"")  # as before its holder wrote it
        began = time.monotonic()
        with pytest.raises(Busy, match="another process writes to it"):
            open_journal(output, manifest(inputs))
        assert time.monotonic() - began < 1


def test_a_lock_that_its_holder_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, inputs, flock = tmp_path / "out.jsonl", texts(2), fcntl.flock
    waiting = [1]

    def slowly(descriptor: int, how: int) -> None:
        if waiting and waiting.pop():
            (tmp_path / ".out.jsonl.lock").unlink()  # the holder ends between opening and locking
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    with open_journal(output, manifest(inputs)):
        assert (tmp_path / ".out.jsonl.lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(Busy):
            open_journal(output, manifest(inputs))


def test_a_hard_link_to_a_busy_output_is_busy_too(tmp_path: Path) -> None:
    output, inputs = tmp_path / "out.jsonl", texts(2)
    with open_journal(output, manifest(inputs)) as journal:
        row = rows(inputs)[0]
        journal.skip(row)
        journal.append(row, record(row))
        (tmp_path / "other.jsonl").hardlink_to(output)
        (tmp_path / ".other.jsonl.manifest.json").write_bytes(
            (tmp_path / ".out.jsonl.manifest.json").read_bytes()
        )
        with pytest.raises(Busy):
            open_journal(tmp_path / "other.jsonl", manifest(inputs))


def test_when_the_holder_of_the_lock_is_killed_the_next_run_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    for _ in range(5):
        process = start(output, "--rows", 3, "--hold", stdin=subprocess.PIPE)
        assert process.stdout.readline() == b"held\n"
        process.kill()
        process.communicate(timeout=60)
        assert (tmp_path / ".out.jsonl.lock").exists()
    assert ended(start(output, "--rows", 3)) == (0, {})
    assert not (tmp_path / ".out.jsonl.lock").exists()


@pytest.mark.parametrize("failing", [False, True], ids=["good", "failed"])
def test_a_last_row_torn_at_any_byte_is_written_again(tmp_path: Path, failing: bool) -> None:
    inputs = texts(4)
    whole = undisturbed(tmp_path / "one", "out.jsonl", 4, failing).read_bytes()
    output = tmp_path / "out.jsonl"
    (tmp_path / ".out.jsonl.manifest.json").write_bytes(
        (tmp_path / "one" / ".out.jsonl.manifest.json").read_bytes()
    )
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(last, len(whole)):
        output.write_bytes(whole[:end])
        journal = open_journal(output, manifest(inputs), fsync="off")
        assert journal.recovered == 3
        assert work(journal, inputs, failing=failing) == 1
        assert output.read_bytes() == whole


@pytest.mark.parametrize("end", range(0, 130, 3))
def test_a_first_row_torn_at_any_byte_is_written_again(tmp_path: Path, end: int) -> None:
    inputs = texts(1)
    output = undisturbed(tmp_path / "one", "out.jsonl", 1)
    whole = output.read_bytes()
    output.write_bytes(whole[:end])
    assert work(open_journal(output, manifest(inputs)), inputs) == 1
    assert output.read_bytes() == whole


def test_zeros_after_a_power_cut_are_cut(tmp_path: Path) -> None:
    inputs = texts(3)
    output = undisturbed(tmp_path / "one", "out.jsonl", 3)
    whole = output.read_bytes()
    output.write_bytes(whole[: whole.index(b"\n") + 1] + bytes(4096))
    assert work(open_journal(output, manifest(inputs)), inputs) == 2
    assert output.read_bytes() == whole


def test_a_file_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    inputs, output = texts(3), tmp_path / "out.csv"

    def make() -> None:
        output.write_text("a stranger's")

    with pytest.raises(CannotCreate, match="it was made meanwhile"):
        work(open_journal(output, manifest(inputs)), inputs, pause=make)
    assert output.read_text() == "a stranger's"
    output.unlink()
    assert work(open_journal(output, manifest(inputs)), inputs) == 0
    assert output.read_text().count("\n") > 3


def test_a_changed_input_is_gone_on_with_by_content(tmp_path: Path) -> None:
    inputs = texts(6)
    output = undisturbed(tmp_path / "one", "out.jsonl", 6)
    former = lines(output.read_bytes())
    now = changed(inputs)
    assert work(open_changed(output, manifest(now)), now) == 2  # the new one, and the second twin
    found = lines(output.read_bytes())
    assert [one["key"] for one in found] == [row.key for row in rows(now)]
    assert [one["id"] for one in found] == [str(number) for number in range(7)]
    assert [one["text"] for one in found] == [record(row)["text"] for row in rows(now)]
    assert found[0]["logprob"] == former[2]["logprob"]
    assert work(open_journal(output, manifest(now)), now) == 0
