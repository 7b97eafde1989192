"""Rows on a Ray cluster: the same texts as here, and every row once when a node is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest
from support.fake_engine import FakeEngine
from support.ray_nodes import cluster_of_two

from gptcli.batch.input.row import Row, digest
from gptcli.batch.run import actors, cluster
from gptcli.batch.run.actors import Answers, Feed
from gptcli.batch.run.child import Failed, Orders, opened
from gptcli.batch.run.width import Width
from gptcli.batch.run.work import Done, Work, answered
from gptcli.errors import BadInput, BadModel, GptcliError, MissingInput, Unavailable, UsageError
from gptcli.options import Load, Sampling
from gptcli.ray_cluster import Pool, arranged

ROOT = Path(__file__).parent.parent.parent
WORDS = ["Once upon a time", "The king", "A fox", "He rode away", "Whoever brings the bird"]


def on_ray(test):
    """Mark a test that needs Ray; what Ray warns of is not ours to mend."""
    there = find_spec("ray") is not None and find_spec("pyarrow") is not None
    test = pytest.mark.skipif(not there, reason="ray[data] is not installed")(test)
    return pytest.mark.ray(pytest.mark.filterwarnings("ignore")(test))


def rows_of(texts: Iterable[str]) -> list[Row]:
    return [Row(n, digest(text.encode()), f"id{n}", text) for n, text in enumerate(texts)]


def sixty() -> list[Row]:
    rows = rows_of(f"{WORDS[n % len(WORDS)]} {n}" for n in range(60))
    rows[5] = replace(rows[5], text="", error=BadInput("rows line 6", "it is not JSON", "Mend it."))
    rows[6] = replace(rows[6], overrides={"seed": 3, "max_new_tokens": 5})
    return rows


def work_of(model: Path) -> Work:
    sampling = Sampling(seed=7, temperature=1.2, max_new_tokens=30)
    return Work(Load(model=str(model), threads=1), sampling, batch_size=4)


def records(done: Iterable[Done]) -> list[dict[str, object]]:
    return [dict(one.record) for one in sorted(done, key=lambda one: one.row.number)]


@pytest.fixture(scope="module")
def here(tiny: Path) -> list[dict[str, object]]:
    """The records of one process."""
    engine, width = opened(Orders(work_of(tiny), 4))
    return records(answered(engine, work_of(tiny), iter(sixty()), width))


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[object]:
    """A cluster of two nodes on this machine, with a processor each."""
    with cluster_of_two() as made:
        yield made


@on_ray
def test_a_cluster_writes_what_one_process_writes(
    two_nodes, tiny: Path, here: list[dict[str, object]], capfd: pytest.CaptureFixture[str]
) -> None:
    there = list(cluster.answered(work_of(tiny), iter(sixty()), two_nodes.address))
    assert records(there) == here
    assert {one.row.number: one.row.key for one in there} == {
        row.number: row.key for row in sixty()
    }
    assert capfd.readouterr() == ("", "")


@on_ray
def test_a_lost_node_costs_no_row(
    two_nodes, tiny: Path, here: list[dict[str, object]], capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    finished = cluster.answered(work_of(tiny), iter(sixty()), two_nodes.address)
    there = [next(finished) for _ in range(8)]
    mine = ray.get_runtime_context().get_node_id()
    [other] = [node for node in two_nodes.list_all_nodes() if node.node_id != mine]
    raylet = other.all_processes["raylet"][0].process.pid
    workers = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    for number in [raylet, *map(int, workers)]:
        os.kill(number, signal.SIGKILL)
    there += finished
    assert Counter(one.row.number for one in there) == Counter(range(60))
    assert records(there) == here
    assert capfd.readouterr() == ("", "")


@on_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9", "127.0.0.1:99999", "no address"])
def test_a_cluster_that_is_not_there_is_unavailable_at_once(tales: Path, address: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="--address"):
        next(cluster.answered(work_of(tales), iter(rows_of(["a"])), address))
    assert time.monotonic() - begun < 10


LOCAL = """
import sys
from gptcli.batch.run import cluster
from gptcli.batch.input.row import Row
from gptcli.batch.run.work import Work
from gptcli.options import Load, Sampling

def rows():
    yield Row(0, "0" * 64, "a", "Once")
    while True:
        yield None

work = Work(Load(model=sys.argv[1], threads=1), Sampling(seed=1, max_new_tokens=2), batch_size=1)
print(next(cluster.answered(work, rows(), actors=1)).record["error"], flush=True)
next(cluster.answered(work, rows(), actors=1))
"""


def ray_processes(session: int) -> list[int]:
    """The processes of this session that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


@on_ray
def test_a_cluster_of_our_own_ends_with_a_program_that_is_terminated(tales: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOCAL, str(tales)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == b"None\n"
        process.terminate()
        said = process.communicate(timeout=20)
    assert said == (b"", b"")
    assert process.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 10
    while ray_processes(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray_processes(process.pid) == []


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tales: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Unavailable, match=r"pip install 'gptcli\[ray\]'"):
        list(cluster.answered(work_of(tales), iter(rows_of(["a"]))))


def test_rays_client_is_refused(tales: Path) -> None:
    with pytest.raises(UsageError, match="--address auto"):
        list(cluster.answered(work_of(tales), iter(rows_of(["a"])), "ray://127.0.0.1:1"))


def test_a_missing_model_is_found_before_ray_is_started(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        list(cluster.answered(work_of(tmp_path / "nowhere"), iter(rows_of(["a"]))))


@pytest.mark.parametrize(
    ("nodes", "load", "actors", "expected"),
    [
        ([{"CPU": 8}, {"CPU": 8}], Load(), None, Pool(2, 4, 0, 8)),
        ([{"CPU": 8}, {"CPU": 16}], Load(), None, Pool(3, 4, 0, 8)),
        ([{"CPU": 8}, {"CPU": 4}], Load(threads=2), None, Pool(6, 1, 0, 2)),
        ([{"CPU": 1}, {"CPU": 1}, {}], Load(), None, Pool(2, 0.5, 0, 1)),
        ([{"CPU": 8}], Load(), 4, Pool(4, 1, 0, 2)),
        ([{"CPU": 8}], Load(), 99, Pool(99, 0.5, 0, 1)),
        ([{"CPU": 2}], Load(threads=8), None, Pool(1, 4, 0, 8)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}], Load(), None, Pool(3, 1, 1, None)),
        ([{"CPU": 8, "GPU": 2}], Load(device="cpu"), None, Pool(1, 4, 0, 8)),
        ([], Load(), None, Pool(1, 0.5, 0, 1)),
    ],
)
def test_actors_for_a_cluster(
    nodes: list[dict[str, float]], load: Load, actors: int | None, expected: Pool
) -> None:
    assert arranged(nodes, load, actors) == expected


def test_the_feed_gives_a_block_again_until_it_is_forgotten() -> None:
    async def used() -> list[bytes | None]:
        feed = Feed()
        early = asyncio.create_task(feed.get(1))
        await feed.put(0, b"zero")
        await feed.put(1, b"one")
        seen = [await feed.get(0), await feed.get(0), await early]
        await feed.forget(0)
        return [*seen, await feed.get(0), await feed.get(1)]

    assert asyncio.run(used()) == [b"zero", b"zero", b"one", b"", b"one"]


def test_the_feed_forgets_blocks_in_any_order() -> None:
    async def used() -> list[bytes | None]:
        feed = Feed()
        for number in range(3):
            await feed.put(number, bytes([number + 65]))
        for number in (2, 0, 1):
            await feed.forget(number)
        return [await asyncio.wait_for(feed.get(number), 1) for number in range(3)]

    assert asyncio.run(used()) == [b"", b"", b""]


class Counting(Answers):
    """The actor without Ray: what was begun is counted here, as it were by the feed."""

    counts: ClassVar[Counter[str]] = Counter()

    def _begun(self, what: str) -> int:
        self.counts[what] += 1
        return self.counts[what]

    def _survived(self, what: str) -> None:
        del self.counts[what]


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch, tales: Path):
    """A function that makes an actor, as if it were the one started in place of a dead one."""

    def reply(request) -> str:
        if request.prompt == "die":
            raise SystemExit
        return request.prompt.upper()

    monkeypatch.setattr(Counting, "counts", Counter())
    monkeypatch.setattr(actors, "opened", lambda orders: (FakeEngine(reply=reply), Width(4, 4)))

    def make(name: str | None = "tales", version: str = actors.__version__) -> Answers:
        return Counting(Orders(work_of(tales), 4), None, name, version)

    return make


def answers_after(make, rows: list[Row], deaths: int) -> list[Done]:
    """The answers to a block, of which this many actors died."""
    for _ in range(deaths):
        with pytest.raises(SystemExit):
            make()._answers(0, rows)
    done = make()._answers(0, rows)
    assert isinstance(done, list)
    return done


def test_a_row_that_kills_its_actor_three_times_is_an_error(actor) -> None:
    rows = rows_of(["a", "die", "b"])
    done = answers_after(actor, rows, deaths=3)
    assert [one.failed for one in done] == [False, True, False]
    assert done[1].record["error"]["type"] == "Unavailable"
    assert done[1].record["prompt"] == "die"


def test_an_actor_names_the_model_as_it_was_asked_for(actor) -> None:
    [done] = actor("./here")._answers(0, rows_of(["a"]))
    assert done.record["model"] == "./here"


def test_an_actor_of_another_version_refuses(actor) -> None:
    refusal = actor(version="99.0")._failed
    assert isinstance(refusal.error, Unavailable)
    assert "pip install gptcli==99.0" in str(refusal.error)


@pytest.mark.parametrize("error", [BadModel("m", "it is broken"), Unavailable("cuda", "is gone")])
def test_an_actors_error_is_kept_for_the_program(
    actor, monkeypatch: pytest.MonkeyPatch, error: GptcliError
) -> None:
    def refuse(*ignored: object) -> None:
        raise error

    monkeypatch.setattr(actors, "answered", refuse)
    assert actor()._answers(0, rows_of(["a"])) == Failed(error)


def test_a_bug_in_an_actor_is_kept_with_its_traceback(
    actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*ignored: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(actors, "answered", fail)
    failed = actor()._answers(0, rows_of(["a"]))
    assert failed.error is None
    assert "ZeroDivisionError" in failed.trace
