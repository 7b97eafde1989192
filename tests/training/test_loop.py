"""Limits, a loss that is no number, time, and the pace of a run with a limit in minutes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.training_runs import asked, ran

from gptcli.training.durability.state import (
    BestLoss,
    KeptState,
    TrainingState,
    decoded,
    encoded,
)
from gptcli.training.events import Ended, Saved, StepDone, Told, TrainingEvent
from gptcli.training.pace import Pace

pytestmark = pytest.mark.usefixtures("quick_flushes")


def of(kind: type[Any], events: list[TrainingEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_epochs_read_every_piece_so_often(tmp_path: Path, story: Path) -> None:
    events = ran(asked(story, tmp_path / "run", steps=None, epochs=2.0))
    done = events[-1]
    assert isinstance(done, Ended)
    assert done.ending == "epochs"
    steps = of(StepDone, events)
    assert steps[-1].epoch == 2.0
    half = sum(step.tokens for step in steps) // 2
    assert sum(step.tokens for step in steps if step.epoch <= 1) == half


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_learning_rate_that_explodes_ends_the_run_with_the_last_good_weights(
    tmp_path: Path, story: Path, clip: float
) -> None:
    import numpy as np
    from safetensors.numpy import load_file

    options = asked(
        story, tmp_path / "run", learning_rate=100.0, clip=clip, steps=60, schedule="constant"
    )
    done = ran(options)[-1]
    assert isinstance(done, Ended)
    assert (done.ending, done.chosen) == ("diverged", None)
    assert "no finite number" in done.why or "above that of guessing" in done.why
    assert not (tmp_path / "run" / "model.safetensors").exists()
    for file in (tmp_path / "run").rglob("*.safetensors"):
        assert all(np.isfinite(tensor).all() for tensor in load_file(file).values()), file
    again = ran(options)
    assert [type(event) for event in again if not isinstance(event, Told)] == [Ended]
    assert again[-1].why == done.why  # type: ignore[union-attr]


def test_a_step_that_is_no_number_is_not_used_and_three_in_a_row_end_the_run(
    tmp_path: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptcli.training.compute.step import Stepper

    usual, bad = Stepper._gradient, {2, 3, 5, 7, 8, 9}
    calls = itertools.count(1)

    def gradient(self: Stepper, *args: Any) -> float:
        loss = usual(self, *args)
        return float("nan") if next(calls) in bad else loss

    monkeypatch.setattr(Stepper, "_gradient", gradient)
    events = ran(asked(story, tmp_path / "run", steps=20))
    texts = [event.text for event in of(Told, events)]
    assert texts == [
        f"step {step} is not used: its loss is no finite number" for step in sorted(bad)
    ]
    done = events[-1]
    assert isinstance(done, Ended)
    assert (done.ending, done.step, done.saved) == ("diverged", 9, 6)
    assert [event.step for event in of(Saved, events)] == [6]  # not in the middle of bad ones
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[2])["loss"] == "nan"


class Clock:
    """Time goes on by so much at each look."""

    def __init__(self, *speeds: tuple[int, float]) -> None:
        self.now, self.looks, self.speeds = 0.0, 0, speeds

    def __call__(self) -> float:
        self.looks += 1
        self.now += next(speed for until, speed in self.speeds if self.looks < until)
        return self.now


@pytest.mark.parametrize("speed", [0.4, 3.0])
def test_minutes_end_a_run_in_time_with_its_rate_fallen(
    tmp_path: Path, story: Path, speed: float
) -> None:
    clock = Clock((40, 0.4), (10**9, 0.4 * speed))
    events = ran(
        asked(story, tmp_path / "run", steps=None, minutes=1.0, warmup=2, eval_every=4),
        clock=clock,
    )
    done, steps = events[-1], of(StepDone, events)
    assert isinstance(done, Ended)
    rates = [step.learning_rate for step in steps]
    assert done.ending == "minutes"
    assert clock.now <= 60 + 16 * speed
    assert clock.now > 48
    assert rates[-1] < 0.1 * max(rates)
    assert rates[2:] == sorted(rates[2:], reverse=True)


@given(
    planned=st.integers(1, 2000),
    limit=st.floats(10, 10**5),
    speeds=st.lists(st.floats(0.01, 100), min_size=1, max_size=8),
)
def test_a_stretched_schedule_rises_to_its_end_without_a_jump(
    planned: int, limit: float, speeds: list[float]
) -> None:
    pace, step, seconds, mark = Pace(planned, None, limit), 0, 0.0, (0, 0.0)
    for speed in speeds:
        step += 5
        seconds += 5 * speed
        if pace.is_over(step, seconds):
            break
        before = pace.place(step)
        pace = Pace(planned, None, limit, pace.replanned(step, seconds, mark))
        mark = step, seconds
        assert pace.place(step) == pytest.approx(before)
    places = [pace.place(number) for number in range(min(pace.steps, 3000) + 1)]
    assert places == sorted(places)
    assert pace.place(pace.steps) == pytest.approx(planned)


@given(
    st.builds(
        TrainingState,
        step=st.integers(0, 10**9),
        tokens=st.integers(0, 10**15),
        seconds=st.floats(0, 10**9),
        best=st.none() | st.builds(BestLoss, step=st.integers(0, 10**12), loss=st.floats(0, 99)),
        first_loss=st.none() | st.floats(-5, 5),
        knots=st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1))).map(tuple),
    ),
    st.data(),
)
def test_a_state_comes_back_as_it_was_or_not_at_all(
    state: TrainingState, data: st.DataObject
) -> None:
    kept = KeptState(run="0123", state=state, files={"a.json": "0" * 64})
    written = encoded(kept)
    assert decoded(written) == kept
    place = data.draw(st.integers(0, len(written) - 2))
    changed = bytearray(written)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert decoded(bytes(changed)) == kept  # spaces that became line ends
    except ValueError:
        return


def test_layers_are_compiled_on_a_gpu_alone(tmp_path: Path, story: Path) -> None:
    from gptcli.errors import UsageError

    with pytest.raises(UsageError, match="--compile"):
        ran(asked(story, tmp_path / "run", steps=1, device="cpu", compile=True))


def test_a_head_that_stays_with_its_frozen_embedding_is_told(tmp_path: Path, story: Path) -> None:
    said = [
        event.text
        for event in ran(asked(story, tmp_path / "run", steps=1, layers=2, freeze=1))
        if isinstance(event, Told)
    ]
    assert any("the head is the token embedding" in text for text in said)
