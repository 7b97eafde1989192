"""What is told of a run: its plan in words, its loss curve, its card, what it learned by heart."""

from __future__ import annotations

import json
import struct
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from support.training_runs import asked, ran

from gptcli.errors import Unavailable
from gptcli.models.card import read_card
from gptcli.training.events import Ended, Prepared, Sampled, Saved, StepDone
from gptcli.training.options import TrainingProgress
from gptcli.training.recipe import train
from gptcli.training.report import trackers
from gptcli.training.report.curves import LossCurves, averaged, pictures, read_curves
from gptcli.training.report.memorisation import _of_gap, _verdict
from gptcli.training.report.outline import lines
from gptcli.training.report.reporting import Reporting

pytestmark = pytest.mark.usefixtures("quick_flushes")


def reported(tmp_path: Path, data: Path, **changes: object) -> tuple[list[object], list[str]]:
    """A run with samples and a report; its events, and what was said."""
    said: list[str] = []
    options = asked(data, tmp_path / "run", **changes)
    told = Reporting(options, said.append)
    return ran(options, sample=told.samples, report=told.report), said


def test_a_run_leaves_curve_card_and_what_it_learned_by_heart(tmp_path: Path, story: Path) -> None:
    events, said = reported(tmp_path, story)
    assert said == []
    folder = tmp_path / "run"
    steps = [event for event in events if isinstance(event, StepDone)]
    curves = read_curves(folder / "log.jsonl")
    assert curves.train == tuple((step.step, step.loss) for step in steps)
    assert [step for step, _ in curves.valid] == [0, 3, 6, 9]
    root = ElementTree.parse(folder / "loss.svg").getroot()
    paths = [node for node in root.iter() if node.tag.endswith("polyline")]
    assert [len(path.attrib["points"].split()) for path in paths] == [9, 4]
    wide, high = struct.unpack(">II", (folder / "loss.png").read_bytes()[16:24])
    assert wide > high > 400
    fields = read_card(folder)
    assert fields is not None
    assert fields["library_name"] == "transformers"
    assert "base_model" not in fields
    card = (folder / "README.md").read_text()
    run = json.loads((folder / "run.json").read_text())
    assert run["data"]["sources"][0]["sha256"] in card
    assert "perplexity" in card
    found = json.loads((folder / "memorisation.json").read_text())
    kinds = {text["kind"] for text in found["texts"]}
    assert kinds == {"sample"}, "no piece of this text is long enough for the others"
    assert found["looked_at"] == 1
    assert found["gap"] == pytest.approx(found["valid_loss"] - found["train_loss"])
    assert all(sentence in card for sentence in found["sentences"])


def test_a_model_that_only_repeats_its_text_is_found_out(tmp_path: Path) -> None:
    words = ("stone", "river", "candle", "horse", "winter", "letter", "garden", "silver", "window")
    text = " ".join(words[number * number * 7 % 53 % 9] for number in range(400))
    (tmp_path / "tale.txt").write_text(text)
    changes = {"documents": "auto", "context": 128, "width": 64, "layers": 2, "steps": 110}
    reported(
        tmp_path,
        tmp_path / "tale.txt",
        **changes,
        learning_rate=0.005,
        batch_tokens=512,
        eval_every=110,
    )
    found = json.loads((tmp_path / "run" / "memorisation.json").read_text())
    kinds = [text["kind"] for text in found["texts"]]
    assert {"training beginning", "sample"} <= {*kinds}
    heart = [text["verbatim"] for text in found["texts"] if text["kind"] == "training beginning"]
    assert max(heart) >= 32
    assert "by heart" in found["sentences"][-1]
    [longest] = [max(found["texts"], key=lambda text: text["shared"])]
    assert longest["passage"] in text


def test_samples_follow_their_prompts_and_are_the_same_again(tmp_path: Path, story: Path) -> None:
    changes = {"sample_prompt": ("The fox", "On day"), "sample_every": 2, "steps": 5}
    events, _ = reported(tmp_path / "one", story, **changes)
    samples = [event for event in events if isinstance(event, Sampled)]
    assert [event.step for event in samples] == [2, 4]
    saved = [event.step for event in events if isinstance(event, Saved)]
    assert saved == [2, 3, 4, 5], "those that write are saved first"
    assert [text[:6] for text in samples[0].texts] == ["The fo", "On day"]
    again, _ = reported(tmp_path / "two", story, **changes)
    assert [event for event in again if isinstance(event, Sampled)] == samples


def test_adapters_write_with_their_base_and_their_card_names_it(
    tmp_path: Path, story: Path
) -> None:
    changes = {"from_": "tiny-tales", "lora": True, "steps": 2, "eval_every": 2, "context": 64}
    options = {**changes, "learning_rate": 1e-3}
    events, said = reported(tmp_path, story, **options)
    assert said == []
    assert any(isinstance(event, Sampled) for event in events)
    fields = read_card(tmp_path / "run")
    assert fields is not None
    assert (fields["license"], fields["base_model"]) == ("cc0-1.0", "tiny-tales")
    assert fields["library_name"] == "peft"


def test_short_memory_ends_no_run(
    tmp_path: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptcli.system.memory.available", lambda: 1000)
    events, said = reported(tmp_path, story, steps=2, eval_every=1, micro_tokens=64)
    assert isinstance(events[-1], Ended)
    assert said == ["no sample texts: about 1 MB are needed, and 1 MB are free"]
    assert "could not write" in (tmp_path / "run" / "README.md").read_text()


def test_the_plan_tells_what_is_learned_and_why(tmp_path: Path, story: Path) -> None:
    [plan] = [event for event in ran(asked(story, tmp_path / "run")) if isinstance(event, Prepared)]
    told = "\n".join(lines(plan))
    for part in (
        "24 documents (a paragraph between blank lines)",
        "kept for validation",
        "a new GPT-2",
        "trained: all parameters",
        "9 of 64 tokens",
        "usual for a new model",
        "float32",
        "tokens are little for a new model",
    ):
        assert part in told


def test_a_gap_and_a_passage_are_judged() -> None:
    assert "as easy" in _of_gap(0.05)
    assert "as is usual" in _of_gap(0.4)
    assert "begins to memorise" in _of_gap(1.5)
    assert "by heart" in _verdict(60, 12, 0)
    assert "by heart" in _verdict(0, 0, 1)
    assert "No sign" in _verdict(40, 30, 0)


def test_curves_of_many_steps_are_averaged_and_none_is_no_picture() -> None:
    points = tuple((float(number), 2.0) for number in range(1, 10001))
    assert len(averaged(points, 400)) <= 400
    assert pictures(LossCurves(), "nothing") is None
    drawn = pictures(LossCurves(((1, 3.0),)), "one step <&>")
    assert drawn is not None
    ElementTree.fromstring(drawn[0])


@pytest.mark.parametrize(("option", "pip"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_what_is_not_installed_is_refused_with_the_way_to_it(
    option: str, pip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    following = (
        TrainingProgress(tensorboard=True) if option != "wandb" else TrainingProgress(wandb="x")
    )
    with pytest.raises(Unavailable, match=f"pip install {pip}"):
        trackers.check(following)


def test_a_run_that_goes_on_doubles_no_point_of_tensorboard(
    tmp_path: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: Counter[tuple[str, int]] = Counter()

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            points.clear()  # its files are removed before
            Path(folder).mkdir()

        def add_scalar(self, name: str, value: float, step: int) -> None:
            points[name, step] += 1

        def close(self) -> None:
            pass

    installed = ModuleType("tensorboardX")
    installed.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    installed.__spec__ = ModuleSpec("tensorboardX", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", installed)
    following, said = TrainingProgress(tensorboard=True), list[str]()
    options = asked(story, tmp_path / "run", steps=9)
    for until in (5, 9):
        with trackers.opened(following, said.append) as tracked:
            for event in train(options):
                tracked.see(event)
                if isinstance(event, StepDone) and event.step == until:
                    break
    assert said == []
    assert {*points.values()} == {1}
    assert {step for name, step in points if name == "train/loss"} == {*range(1, 10)}
    assert ("validation/loss", 3) in points
