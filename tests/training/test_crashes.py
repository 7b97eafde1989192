"""A run that is killed at any moment goes on, and ends with the same bytes.

`GPTCLI_TRAIN_KILLS` is the number of kills of each kind, `GPTCLI_TRAIN_SEED` their seed.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.training_runs import DIED, Moments, asked, ended, files_of, forked, ran

from gptcli.errors import GptcliError
from gptcli.training.options import TrainOptions

KILLS = int(os.environ.get("GPTCLI_TRAIN_KILLS", "4"))
SEED = int(os.environ.get("GPTCLI_TRAIN_SEED", str(random.SystemRandom().randrange(10**6))))


pytestmark = pytest.mark.usefixtures("quick_flushes")


def logged(folder: Path) -> list[dict[str, object]]:
    """The lines of the log, without times and what depends on when checkpoints were saved."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in lines
        if line["event"] in ("stepdone", "evaluated")
    ]


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended alike."""
    return dict(files_of(one)) == dict(files_of(other)) and logged(one) == logged(other)


def error_of(options: TrainOptions) -> GptcliError | None:
    """What a run raises."""
    try:
        ran(options)
    except GptcliError as error:
        return error
    return None


def test_a_run_that_dies_at_any_change_of_the_disk_ends_the_same(
    tmp_path: Path, story: Path
) -> None:
    ran(asked(story, tmp_path / "whole", dropout=0.1))
    moments = Moments(None)

    def count() -> None:
        moments.install()
        ran(asked(story, tmp_path / "counted", dropout=0.1))
        (tmp_path / "count").write_text(str(moments.count))

    assert ended(forked(count)) == 0
    total = int((tmp_path / "count").read_text())
    assert total > 100
    chosen = sorted(random.Random(SEED).sample(range(1, total), min(KILLS, total - 1)))
    for moment in chosen:
        folder = tmp_path / f"moment{moment}"

        def dying(folder: Path = folder, moment: int = moment) -> None:
            Moments(moment).install()
            ran(asked(story, folder, dropout=0.1))

        assert ended(forked(dying)) in (0, DIED), f"seed {SEED}, moment {moment}"
        ran(asked(story, folder, dropout=0.1))
        assert same(folder, tmp_path / "whole"), f"seed {SEED}, moment {moment}"


def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path: Path, story: Path) -> None:
    dice, killed = random.Random(SEED), 0
    ran(asked(story, tmp_path / "whole", steps=60))
    while killed < KILLS:
        began = time.monotonic()
        child = forked(lambda: ran(asked(story, tmp_path / "torn", steps=60)))
        time.sleep(dice.uniform(0.02, 0.15))
        os.kill(child, signal.SIGKILL)
        assert ended(child) in (0, -signal.SIGKILL), time.monotonic() - began
        killed += 1
    ran(asked(story, tmp_path / "torn", steps=60))
    assert same(tmp_path / "torn", tmp_path / "whole"), f"seed {SEED}"


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_ends_a_run_in_74_and_loses_nothing(
    tmp_path: Path, story: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    ran(asked(story, tmp_path / "whole"))
    dice, folder, failed = random.Random(SEED), tmp_path / "full", 0
    while failed < KILLS:
        moments, last = Moments(None), dice.randrange(1, 120)

        def failing(call: Callable[..., Any], moments: Moments = moments, last: int = last) -> Any:
            def instead(*args: Any, **named: Any) -> Any:
                moments.count += 1
                if moments.count >= last:
                    raise OSError(kind, os.strerror(kind))
                return call(*args, **named)

            return instead

        with monkeypatch.context() as patched:
            for name in ("write", "mkdir", "link"):
                patched.setattr(os, name, failing(getattr(os, name)))
            error = error_of(asked(story, folder))
        if error is None:
            shutil.rmtree(folder)
        else:
            assert (error.exit_code, "again" in error.hint) == (74, True), (error, SEED)
            failed += 1
        assert not list(folder.rglob(".step-*")), f"seed {SEED}"
    ran(asked(story, folder))
    assert same(folder, tmp_path / "whole"), f"seed {SEED}"
