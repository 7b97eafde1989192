"""The same command again goes on; another one is refused by name, or goes on where it may."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from support.training_runs import asked, files_of, ran

from gptcli.errors import BadInput, Busy, CannotCreate, UsageError
from gptcli.training.events import Began, Ended, Evaluated, Saved, StepDone, Told, TrainingEvent
from gptcli.training.options import TrainOptions
from gptcli.training.recipe import TrainingFrame, train

pytestmark = pytest.mark.usefixtures("quick_flushes")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, story: Path) -> Path:
    """A run of nine steps that ended."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ran(asked(story, folder))
    return folder


@pytest.fixture
def done(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "run")


def stopped(options: TrainOptions, after: int) -> list[TrainingEvent]:
    """A run that is asked to stop after so many of its steps."""
    seen: list[TrainingEvent] = []

    def stopping() -> bool:
        return sum(isinstance(event, StepDone) for event in seen) >= after

    for event in train(options, TrainingFrame(stoppable=lambda: nullcontext(stopping))):
        seen.append(event)
    return seen


def of(kind: type[Any], events: list[TrainingEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def texts(events: list[TrainingEvent]) -> str:
    return "; ".join(event.text for event in of(Told, events))


def refusal(options: TrainOptions) -> str:
    """What a run is refused with; nothing in its folder changes."""
    folder = Path(str(options.following.output))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as refused:
        ran(options)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert after == before
    return str(refused.value)


def test_a_run_leaves_a_model_and_the_best_and_last_checkpoints(whole: Path) -> None:
    done = whole
    names = {path.name for path in done.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "run.json", "log.jsonl"} <= names
    assert not [name for name in names if name.startswith(".")]
    assert sorted(path.name for path in (done / "checkpoints").iterdir()) == [
        "step-000006",
        "step-000009",
    ]
    run = json.loads((done / "run.json").read_text())
    assert (run["ending"], run["last"], run["best"]) == ("steps", 9, 9)
    assert run["data"]["sources"][0]["name"].endswith("tale.txt")


def test_a_run_that_ended_says_so_and_does_nothing(done: Path, story: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    events = ran(asked(story, done))
    assert isinstance(events[-1], Ended)
    assert (events[-1].again, events[-1].step, events[-1].chosen) == (True, 9, 9)
    assert not of(Began, events)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("after", [4, 6])
def test_a_run_that_is_stopped_saves_its_step_and_ends_the_same(
    tmp_path: Path, story: Path, whole: Path, after: int
) -> None:
    options = asked(story, tmp_path / "run")
    events = stopped(options, after)
    last = events[-1]
    assert isinstance(last, Ended)
    assert (last.ending, last.step, last.saved) == ("interrupted", after, after)
    events = ran(options)
    assert of(Began, events)[0].step == after
    assert [event.step for event in of(StepDone, events)] == list(range(after + 1, 10))
    assert (
        dict(files_of(tmp_path / "run"))["model.safetensors"]
        == dict(files_of(whole))["model.safetensors"]
    )


def test_a_stop_before_the_first_step_leaves_nothing_to_go_on_from(
    tmp_path: Path, story: Path
) -> None:
    events = stopped(asked(story, tmp_path / "run"), 0)
    assert (events[-1].step, events[-1].saved) == (0, None)  # type: ignore[union-attr]
    assert of(Began, ran(asked(story, tmp_path / "run")))[0].step == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "--seed"),
        ({"learning_rate": 0.01}, r"--learning-rate was 0\.001 and is 0\.01"),
        ({"batch_tokens": 65}, "--batch-tokens was 64 and is 65"),
        ({"schedule": "linear"}, "--schedule was cosine and is linear"),
        ({"warmup": 5}, "--warmup was 1 and is 5"),
        ({"weight_decay": 0.0, "clip": 2.0}, "--weight-decay was 0.1 and is 0; --clip was 1 and"),
        ({"dropout": 0.1}, "--dropout was 0 and is 0.1"),
        ({"layers": 2, "width": 32}, "--layers was 1 and is 2; --width was 16 and is 32"),
        ({"vocab_size": 290}, "--vocab-size was 300 and is 290"),
        ({"from_": "tiny-tales"}, "--from was not given and is tiny-tales"),
        ({"seed": 1, "clip": 2.0}, "--seed was not given and is 1; --clip was not given and is 2"),
        ({"valid_share": 0.3}, "--valid-share.* 0.2.* 0.3"),
        ({"documents": "line"}, "--documents"),
        ({"context": 16}, "--context"),
        ({"steps": 12}, "--steps was 9 and is 12.*--schedule constant"),
        ({"steps": None, "epochs": 1.0}, "--steps was 9 and is not given; --epochs"),
    ],
)
def test_another_setting_is_refused_by_its_name_and_both_values(
    done: Path, story: Path, changes: dict[str, Any], named: str
) -> None:
    said = refusal(asked(story, done, **changes))
    assert re.search(named, said), said
    assert "--force" in said or "-o" in said


def test_changed_data_are_refused_by_name(done: Path, story: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.txt"
    shutil.copy(story, moved)
    ran(asked(moved, tmp_path / "other"))
    moved.write_text(story.read_text().replace("fox", "bear"))
    said = refusal(asked(moved, tmp_path / "other"))
    assert re.search(r"moved\.txt: it has other contents", said), said
    shutil.copy(story, moved)
    assert ran(asked(moved, done))[-1].again  # type: ignore[union-attr]


def test_what_does_not_change_the_weights_may_differ(
    tmp_path: Path, story: Path, whole: Path
) -> None:
    options = asked(story, tmp_path / "run")
    stopped(options, 4)
    events = ran(
        asked(
            story,
            tmp_path / "run",
            keep=5,
            save_every=2,
            sample_every=0,
            tensorboard=True,
            learning_rate=0.001,  # what the default was
            warmup=1,
        )
    )
    assert not of(Told, events)
    assert [event.step for event in of(Saved, events)] == [6, 8, 9]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"micro_tokens": 32}, "--micro-tokens was 64 and is 32.*last bits"),
        ({"eval_every": 4}, "another step may come out as the best"),
        ({"patience": 9}, "another step may come out as the best"),
    ],
)
def test_what_may_change_the_last_bits_or_the_choice_is_told(
    tmp_path: Path, story: Path, changes: dict[str, Any], told: str
) -> None:
    stopped(asked(story, tmp_path / "run"), 4)
    events = ran(asked(story, tmp_path / "run", **changes))
    assert re.search(told, texts(events)), texts(events)
    assert of(StepDone, events)[0].step == 5
    assert events[-1].ending == "steps"  # type: ignore[union-attr]


def test_another_number_of_threads_is_told(tmp_path: Path, story: Path) -> None:
    stopped(asked(story, tmp_path / "run"), 4)
    file = tmp_path / "run" / "run.json"
    threads = json.loads(file.read_text())["machine"]["threads"]
    file.write_text(file.read_text().replace(f'"threads": {threads}', '"threads": 77'))
    assert f"the number of threads was 77 and is {threads}: the weights may differ" in texts(
        ran(asked(story, tmp_path / "run"))
    )


def test_a_constant_rate_goes_on_to_more_steps_as_if_they_had_been_asked(
    tmp_path: Path, story: Path
) -> None:
    def options(folder: str, steps: int) -> TrainOptions:
        return asked(story, tmp_path / folder, schedule="constant", steps=steps, warmup=2)

    ran(options("whole", 15))
    ran(options("longer", 9))
    assert of(StepDone, ran(options("longer", 15)))[0].step == 10
    assert (tmp_path / "longer" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    assert "--steps is 4, and step 15 is done" in refusal(options("longer", 4))


def test_the_model_is_that_of_the_best_validation_and_more_patience_goes_on(
    tmp_path: Path, story: Path
) -> None:
    options = {"learning_rate": 0.3, "steps": 40, "eval_every": 1, "batch_tokens": 200, "keep": 0}
    events = ran(asked(story, tmp_path / "run", patience=2, **options))
    done = events[-1]
    assert isinstance(done, Ended)
    losses = {event.step: event.loss for event in of(Evaluated, events) if event.step}
    assert done.best == min(losses, key=lambda step: losses[step])
    assert (done.ending, done.step, done.chosen) == ("patience", done.best + 2, done.best)
    kept = tmp_path / "run" / "checkpoints"
    best = kept / f"step-{done.best:06}" / "model.safetensors"
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == best.read_bytes()
    assert len(list(kept.iterdir())) == 2
    again = ran(asked(story, tmp_path / "run", patience=3, **options))
    assert of(StepDone, again)[0].step == done.step + 1


def test_force_begins_anew_and_leaves_nothing_of_the_former_run(
    done: Path, story: Path, tmp_path: Path
) -> None:
    events = ran(asked(story, done, steps=6, seed=3, vocab_size=290, force=True))
    ran(asked(story, tmp_path / "fresh", steps=6, seed=3, vocab_size=290))
    assert of(Began, events)[0].step == 0
    assert dict(files_of(done)) == dict(files_of(tmp_path / "fresh"))
    assert sorted(path.name for path in done.iterdir()) == sorted(
        path.name for path in (tmp_path / "fresh").iterdir()
    )


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path, story: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for force in (False, True):
        with pytest.raises(CannotCreate, match=r"cat\.jpg"):
            ran(asked(story, tmp_path / "photos", force=force))
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(CannotCreate, match="no folder"):
        ran(asked(story, story))
    with pytest.raises(UsageError, match="output"):
        ran(asked(story, Path("\0")))


def test_data_that_cannot_be_used_leave_no_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(BadInput):
        ran(asked(tmp_path / "empty.txt", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path, story: Path) -> None:
    first = train(asked(story, tmp_path / "run"))
    next(event for event in first if isinstance(event, StepDone))
    with pytest.raises(Busy, match=f"process {os.getpid()} writes to it"):
        ran(asked(story, tmp_path / "run"))
    assert isinstance(list(first)[-1], Ended)


def damage_a_bit(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()  # it may have another name
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("state.json", "bit"),
        ("state.json", "gone"),
        ("model.safetensors", "bit"),
        ("optimizer.safetensors", "cut"),
        ("tokenizer.json", "gone"),
    ],
)
def test_of_a_damaged_checkpoint_the_one_before_is_used(
    tmp_path: Path, story: Path, whole: Path, name: str, how: str
) -> None:
    options = asked(story, tmp_path / "run")
    stopped(options, 8)
    file = tmp_path / "run" / "checkpoints" / "step-000008" / name
    if how == "bit":
        damage_a_bit(file)
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-2])
    else:
        file.unlink()
    events = ran(options)
    assert f"checkpoint step-000008 ({name}" in texts(events)
    assert of(Began, events)[0].step == 6
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()


def test_where_every_checkpoint_is_damaged_the_run_is_refused(done: Path, story: Path) -> None:
    run = json.loads((done / "run.json").read_text())
    (done / "run.json").write_text(json.dumps({**run, "ending": None}))
    for state in done.glob("checkpoints/*/state.json"):
        state.write_text("{}")
    said = refusal(asked(story, done))
    assert "every checkpoint is damaged" in said
    assert "step-000009" in said


def test_a_broken_run_file_is_refused_by_its_rule(done: Path, story: Path) -> None:
    run = json.loads((done / "run.json").read_text())
    broken: list[Any] = [
        *("", "[]", "{", "null", '{"format": 2}', '{"a": NaN}', "[" * 100_000),
        *({name: value for name, value in run.items() if name != gone} for gone in run),
        *({**run, name: wrong} for name, wrong in itertools.product(run, ([], "x", -1.5, True))),
        {**run, "settings": {**run["settings"], "seed": "x"}},
        {**run, "settings": {**run["settings"], "more": 1}},
        {**run, "data": {**run["data"], "sources": [{}]}},
        {**run, "data": {**run["data"], "sources": 3}},
        {**run, "machine": {**run["machine"], "threads": None}},
    ]
    for value in broken:
        text = value if isinstance(value, str) else json.dumps(value)
        (done / "run.json").write_text(text)
        with suppress(BadInput):  # any other error is one too many
            ran(asked(story, done))
    (done / "run.json").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"run\.json"):
        ran(asked(story, done))


def test_no_line_of_the_log_is_torn_or_stands_twice(tmp_path: Path, story: Path) -> None:
    options = asked(story, tmp_path / "run")
    stopped(options, 5)
    log = tmp_path / "run" / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"event": "stepdone", "step": 6, "lo')
    ran(options)
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    steps = [line["step"] for line in lines if line["event"] == "stepdone"]
    assert steps == list(range(1, 10))
    assert [line["step"] for line in lines if line["event"] == "evaluated"] == [0, 3, 6, 9]
    assert lines[-1]["event"] == "ended"


@pytest.mark.parametrize(
    "changes",
    [
        {"from_": "tiny-tales", "lora": True, "context": 32, "steps": 4},
        {"from_": "tiny-tales", "freeze": 3, "context": 32, "steps": 4},
        {"optimizer": "muon", "dropout": 0.2},
        {"context": 16, "steps": None, "epochs": 1.5, "micro_tokens": 30},
    ],
)
def test_every_kind_of_training_goes_on_to_the_same_bytes(
    tmp_path: Path, story: Path, changes: dict[str, Any]
) -> None:
    changes = {"eval_every": 2, **changes}
    ran(asked(story, tmp_path / "whole", **changes))
    for after in (1, 1):
        stopped(asked(story, tmp_path / "run", **changes), after)
    events = ran(asked(story, tmp_path / "run", **changes))
    assert of(Began, events)[0].step == 2
    for name in ("model.safetensors", "adapter_model.safetensors", "adapter_config.json"):
        one, other = tmp_path / "run" / name, tmp_path / "whole" / name
        assert one.exists() == other.exists() == (("adapter" in name) == ("lora" in changes))
        assert not one.exists() or one.read_bytes() == other.read_bytes()
