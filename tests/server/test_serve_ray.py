"""`gptcli serve --runner ray`: the same answers from any replica, and a node that is lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.commands import REAL, TALES, run
from support.ray_nodes import cluster_of_two
from support.serving import LONG, ServeProcess, reset

from gptcli.errors import UsageError
from gptcli.server.options import Serve

CLIENTS = 16
SEEDS = 24
REPLICA = "x-gptcli-replica"
SECONDS = 120  # for a lost node to be noticed and replaced, on a busy machine


def on_ray(test):
    """Mark a test that needs Ray; what Ray warns of is not ours to mend."""
    there = find_spec("ray") is not None and find_spec("fastapi") is not None
    test = pytest.mark.skipif(not there, reason="ray[serve] is not installed")(test)
    return pytest.mark.ray(pytest.mark.filterwarnings("ignore")(test))


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes on this machine, with a processor each."""
    with cluster_of_two() as made:
        yield made


def body(seed: int, stream: bool = False) -> dict[str, Any]:
    """A request whose text depends on its seed."""
    prompt = f"Once upon a time there were {seed}"
    return {"prompt": prompt, "seed": seed, "max_tokens": 60, "ignore_eos": True, "stream": stream}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """The answers of one process."""
    with ServeProcess() as alone:
        return [alone.post(body(seed)).json["choices"][0]["text"] for seed in range(SEEDS)]


@dataclass
class Load:
    """Clients that ask again and again until `stop`, each of them for texts that are known."""

    port: int
    texts: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[object] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)  # when, from which replica
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)

    def _client(self, number: int) -> None:
        seed = number
        while not self.stop.is_set():
            stream = (seed + number) % 2 == 0
            for tries in range(1000):
                failed = self._ask(seed % SEEDS, stream)
                if failed is None:
                    self.counts["after a retry" if tries else "at once"] += 1
                    break
                self.failures.append((time.monotonic(), failed))
                time.sleep(0.2)
            seed += 1

    def _ask(self, seed: int, stream: bool) -> str | None:
        """Ask once; gives how it failed, as a client sees it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body(seed, stream)))
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()
        if response.status >= 500:
            return str(response.status)
        if stream and response.status == 200 and not data.endswith(b"data: [DONE]\n\n"):
            self.wrong.append(("an end without [DONE]", data[-300:]))
        elif response.status != 200 or text_of(data, stream) != self.texts[seed]:
            self.wrong.append((response.status, data[:300]))
        self.answers.append((time.monotonic(), response.headers[REPLICA]))
        return None

    def wait(self, answers: int, replicas: int, after: float) -> float:
        """Wait for so many answers of so many replicas; gives when the last replica answered."""
        until = time.monotonic() + SECONDS
        while True:
            first: dict[str, float] = {}
            found = [one for one in list(self.answers) if one[0] > after]
            for moment, replica in found:
                first.setdefault(replica, moment)
            if len(found) >= answers and len(first) >= replicas:
                return max(first.values())
            assert time.monotonic() < until, (len(found), first, self.failures[-3:])
            time.sleep(0.05)


def text_of(data: bytes, stream: bool) -> str:
    if not stream:
        return json.loads(data)["choices"][0]["text"]
    events = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]
    return "".join(event["choices"][0]["text"] for event in events)


def kill(node: Any) -> float:
    """Kill a node at once, with all that runs on it; gives when."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    for number in [raylet, *map(int, workers)]:
        os.kill(number, signal.SIGKILL)
    return time.monotonic()


@on_ray
def test_replicas_answer_as_one_process_and_a_lost_node_is_replaced(
    two_nodes: Any, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--runner", "ray", "--replicas", "2", "--address", two_nodes.address)
    with ServeProcess(*arguments) as server:
        replicas_are_equal(server, texts)
        streams_arrive_in_pieces(server)
        gone_clients_free_the_engine(server)
        second = run(REAL, "serve", *TALES, "--port", "0", *arguments)
        assert second.returncode == 69
        assert b"Ray Serve runs on this cluster already" in second.stderr
        begun = time.monotonic()
        with Load(server.port, texts) as load:
            load.wait(40, 2, begun)
            killed = kill(two_nodes.worker_nodes.copy().pop())
            load.wait(20, 1, killed)
            known = {replica for moment, replica in load.answers if moment < killed}
            until = time.monotonic() + SECONDS
            while not (new := [one for one in list(load.answers) if one[1] not in known]):
                assert time.monotonic() < until, load.failures[-5:]
                time.sleep(0.05)
            back = new[0][0] - killed
            load.wait(40, 2, time.monotonic())
        assert load.wrong == []
        last = max((moment for moment, _ in load.failures), default=killed) - killed
        with capsys.disabled():
            told = dict(Counter(how for _, how in load.failures))
            print(f"\n{dict(load.counts)}, failures {told}, the last after {last:.1f} s; "
                  f"a new replica answered after {back:.1f} s")  # fmt: skip
        assert all(moment > killed for moment, _ in load.failures)
        for seed in range(SEEDS):
            assert server.post(body(seed)).json["choices"][0]["text"] == texts[seed]
        assert server.stop() == -signal.SIGTERM


@on_ray
def test_more_replicas_than_there_is_room_for_are_refused(two_nodes: Any) -> None:
    where = ("--runner", "ray", "--address", two_nodes.address)
    refused = run(REAL, "serve", *TALES, "--port", "0", *where, "--replicas", "9")
    assert refused.returncode == 69
    assert b"--replicas 9: the cluster has room for" in refused.stderr


def replicas_are_equal(server: ServeProcess, texts: list[str]) -> None:
    seen = Counter()
    for n in range(2 * SEEDS):
        answer = server.post(body(n % SEEDS))
        assert answer.json["choices"][0]["text"] == texts[n % SEEDS]
        seen[answer.headers[REPLICA]] += 1
    assert len(seen) == 2


def streams_arrive_in_pieces(server: ServeProcess) -> None:
    with server.send({**LONG, "stream": True}) as connection:
        moments = []
        while connection.recv(65536):
            moments.append(time.monotonic())
    assert len(moments) > 10
    assert moments[-1] - moments[0] > 0.01


def gone_clients_free_the_engine(server: ServeProcess) -> None:
    connections = [server.send({**LONG, "stream": n % 2 == 0, "n": 4}) for n in range(8)]
    time.sleep(0.3)
    for connection in connections:
        reset(connection)
    until = time.monotonic() + 20
    idle: Counter[str] = Counter()
    while len(idle) < 2:
        answer = server.get("/health")
        if answer.json["running"] == answer.json["waiting"] == 0:
            idle[answer.headers[REPLICA]] += 1
        assert time.monotonic() < until, answer.json
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"runner": "ray", "uds": "here"}, "uds"),
        ({"runner": "ray", "access_log": "-"}, "access.log"),
        ({"replicas": 2}, "replicas"),
        ({"address": "auto"}, "address"),
    ],
)
def test_what_goes_with_one_runner_only_is_refused(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        Serve(**changes)
