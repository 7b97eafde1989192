"""The library: `from gptcli import load`."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

import gptcli
from gptcli import GptcliError, Load, Sampling, load
from gptcli.errors import BadInput, MissingInput, UsageError


def test_public_names_are_there() -> None:
    assert all(getattr(gptcli, name) for name in gptcli.__all__)
    with pytest.raises(AttributeError):
        _ = gptcli.nothing


def test_generate_gives_a_completion(tiny: Path) -> None:
    done = load(str(tiny)).generate("Once", Sampling(greedy=True, max_new_tokens=4))
    assert done.usage.completion_tokens == len(done.tokens) <= 4
    assert done.error is None


def test_stream_joins_to_what_generate_gives(tiny: Path) -> None:
    model = load(str(tiny))
    sampling = Sampling(seed=3, max_new_tokens=20)
    assert "".join(model.stream("Once", sampling)) == model.generate("Once", sampling).text


def test_generate_many_keeps_the_order(tiny: Path) -> None:
    prompts = ["a", "b c d", "e"]
    done = load(str(tiny), batch_size=2).generate_many(
        prompts, Sampling(num_return_sequences=2, max_new_tokens=5)
    )
    assert [(c.prompt, c.index) for c in done] == [(p, i) for p in prompts for i in (0, 1)]


def test_a_prompt_that_does_not_fit_raises(tiny: Path) -> None:
    model = load(str(tiny))
    with pytest.raises(BadInput):
        model.generate("x " * 100)
    with pytest.raises(BadInput):
        list(model.stream("x " * 100))


def test_stream_is_for_one_sequence(tiny: Path) -> None:
    with pytest.raises(UsageError):
        next(load(str(tiny)).stream("Once", Sampling(num_return_sequences=2)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Load(device="gpu"),
        lambda: Load(dtype="int4"),
        lambda: Sampling(max_new_tokens="5"),
        lambda: Sampling(top_k=2.5),
        lambda: Sampling(stop={"the"}),
        lambda: Sampling(stop=[3]),
        lambda: Sampling(logit_bias=((" the", float("nan")),)),
        lambda: Sampling(seed=True),
    ],
)
def test_values_of_a_wrong_type_are_refused(make) -> None:
    with pytest.raises(UsageError):
        make()


def test_a_task_is_asked_by_its_name(tales: Path) -> None:
    model = load(str(tales))
    answer = model.ask(
        "classify", "A kind fairy", {"labels": ["kind", "bad"], "calibration": "pmi"}
    )
    assert answer.text in ("kind", "bad")
    assert answer.labels is not None
    assert sum(share for _, share in answer.labels) == pytest.approx(1)
    greedy = model.ask("translate", "The king.", {"from": "fr", "to": "en"}, examples=["a = b"])
    assert (
        greedy.text
        == model.ask("translate", "The king.", {"from": "fr", "to": "en"}, None, ["a = b"]).text
    )


def test_a_task_is_asked_for_many_texts_in_order(tales: Path) -> None:
    texts = ["A good king", "", "A bad wolf", "An old fox"]
    found = list(load(str(tales), batch_size=2).ask_many("classify", texts))
    assert [answer.input for answer in found] == texts
    assert all(answer.text in ("positive", "negative") for answer in found)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("clasify", {}),
        ("classify", {"label": "a,b"}),
        ("classify", {"labels": ["a"]}),
        ("classify", {"labels": ["good, or fine", "bad"]}),
        ("classify", {"labels": [1, 2]}),
        ("summarize", {"strategy": ["each"]}),
    ],
)
def test_a_task_or_option_that_is_none_is_refused(tiny: Path, task: str, options) -> None:
    with pytest.raises(UsageError):
        load(str(tiny)).ask(task, "x", options)


def test_generate_gives_one_text(tiny: Path) -> None:
    with pytest.raises(UsageError):
        load(str(tiny)).generate("Once", Sampling(num_return_sequences=2))


def test_a_model_needs_a_slot(tiny: Path) -> None:
    with pytest.raises(UsageError):
        load(str(tiny), batch_size=0)


def test_loading_in_threads_keeps_stderr(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    threads = [Thread(target=load, args=(str(tiny),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_failures_are_of_one_family() -> None:
    with pytest.raises(GptcliError) as caught:
        load("./nowhere")
    assert isinstance(caught.value, MissingInput)


def test_info_tells_what_is_loaded(tales: Path) -> None:
    info = load("tiny-tales").info
    assert (info.name, info.context, info.parameters) == ("tiny-tales", 512, 3_554_304)
    assert (info.dtype, info.device, info.architecture) == ("float32", "cpu", "gpt2")
