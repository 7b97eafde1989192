"""A download may be killed anywhere: what is loaded afterwards is right, or nothing is.

`GPTCLI_KILL_ROUNDS` and `GPTCLI_KILL_SEED` set how often a real `gptcli models pull` is killed, and
when.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.commands import REAL, start
from support.fake_hub import COMMIT, FakeHub, point_at

from gptcli.checkpoints import hub
from gptcli.checkpoints.resolve import find_cached

REPO = "someone/model"
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b"{}" * 20_000,
    "model.safetensors.index.json": b"{}",
    "model-00001-of-00002.safetensors": bytes(range(256)) * 1500,
    "model-00002-of-00002.safetensors": bytes(range(255)) * 1500,
}
SIZE = sum(map(len, FILES.values()))
# Read here, as no test sees the variables of the user's.
ROUNDS = int(os.environ.get("GPTCLI_KILL_ROUNDS", "20"))
SEED = int(os.environ.get("GPTCLI_KILL_SEED", str(random.SystemRandom().randrange(10**6))))


class Killed(BaseException):
    """The process ends here."""


class Death:
    """It comes before the n-th of the calls."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0

    def at(self, call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **named: object) -> object:
            self.count += 1
            if self.count == self.number:
                raise Killed
            return call(*args, **named)

        return instead


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub, for this process and for others, and an empty cache."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with FakeHub(REPO, dict(FILES)) as server:
        point_at(server.url, monkeypatch)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def right_or_nothing(about: str) -> bool:
    """What a run offline would load, by branch or by commit; whether there is something."""
    for revision in (COMMIT, "main"):
        found = find_cached(REPO, revision)
        if found is not None:
            there = {path.name: path.read_bytes() for path in found.folder.iterdir()}
            assert there == FILES, about
    return found is not None


def test_after_kill_9_at_any_moment_the_next_run_is_right(fake: FakeHub, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    fake.pause, fake.piece = 0.001, 2**13  # about a fifth of a second in all
    killed = complete = resumed = 0
    while killed < ROUNDS or not resumed:
        assert killed < max(10 * ROUNDS, 100), f"seed {SEED}: none of {killed} went on"
        about = f"seed {SEED}, kill {killed}"
        there = sum(file.stat().st_size for file in tmp_path.glob("hub/models--*/blobs/*"))
        until = fake.sent + dice.randint(0, SIZE - there)
        process = start(REAL, "models", "pull", REPO, "-q")
        deadline = time.monotonic() + 30
        while fake.sent < until and process.poll() is None:
            assert time.monotonic() < deadline, about
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.02 if there < SIZE else 0.8))
        process.kill()
        process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            killed += 1
        else:
            assert process.returncode == 0, about
        if right_or_nothing(about) or dice.random() < 0.4:  # else the next to be killed goes on
            before = len(fake.content())
            fake.pause = 0
            found = hub.download(REPO, "main", None)
            fake.pause = 0.001
            resumed += any(range_ for _, _, range_ in fake.content()[before:])
            assert found.fetched <= SIZE, about
            assert right_or_nothing(about), about
            assert not list(tmp_path.rglob("*.incomplete")), about
            complete += 1
            shutil.rmtree(tmp_path / "hub")
    assert complete


def test_a_download_may_die_at_every_call_that_changes_the_disk(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(1, 500):
        fake.damaged["tokenizer.json"] = 1  # so that removing it is among the calls
        death = Death(number)
        with monkeypatch.context() as patch:
            for name in ("touch", "replace", "symlink_to", "unlink", "mkdir", "write_text"):
                patch.setattr(Path, name, death.at(getattr(Path, name)))
            patch.setattr(os, "fsync", death.at(os.fsync))
            try:
                hub.download(REPO, "main", None)
            except Killed:
                right_or_nothing(f"call {number}")
        hub.download(REPO, "main", None)
        assert right_or_nothing(f"call {number}")
        shutil.rmtree(tmp_path / "hub")
        if death.count < number:
            assert number > 30
            return
    pytest.fail("it never succeeded")
