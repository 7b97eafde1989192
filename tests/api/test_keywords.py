"""The library as Python programs call it: keywords, numbers of numpy, what is no text, forks."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from support.commands import environment

import gptcli
from gptcli import (
    BadInput,
    Batch,
    GptcliError,
    Model,
    Prompts,
    RollingRequest,
    Sampling,
    Scoring,
    Unavailable,
    UsageError,
    Window,
    load,
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load("tiny-tales", batch_size=2)


def test_keywords_are_the_fields_of_sampling(model: Model) -> None:
    given = Sampling(seed=3, max_new_tokens=5, top_p=0.9)
    text = model.generate("Once", given).text
    assert model.generate("Once", seed=3, max_new_tokens=5, top_p=0.9).text == text
    assert model.generate("Once", given, max_tokens=5).text == text  # another name of the flag
    assert model.generate("Once", given, max_new_tokens=2).usage.completion_tokens == 2
    assert "".join(model.stream("Once", seed=3, max_new_tokens=5, top_p=0.9)) == text
    assert model.generate_many(["Once"], given)[0].text == text


def test_numbers_of_numpy_are_numbers(model: Model) -> None:
    plain = Sampling(seed=3, max_new_tokens=4, temperature=0.5, stop_on_loop=True)
    same = Sampling(
        seed=np.int64(3),  # type: ignore[arg-type]
        max_new_tokens=np.uint8(4),  # type: ignore[arg-type]
        temperature=np.float32(0.5),
        stop_on_loop=np.bool_(True),  # type: ignore[arg-type]
    )
    assert same == plain
    assert all(type(value) is type(getattr(plain, name)) for name, value in vars(same).items())
    with pytest.raises(UsageError):
        Sampling(max_new_tokens=np.float64(4.0))  # type: ignore[arg-type]
    assert model.decode(np.array(model.encode("Once upon"))) == "Once upon"


@pytest.mark.parametrize("stop", [".", ["."], (".",)])
def test_stop_is_a_text_or_several(stop: object) -> None:
    assert Sampling(stop=stop).stop == (".",)  # type: ignore[arg-type]


def test_biases_are_pairs_or_a_mapping() -> None:
    pairs = ((" the", -5.0), ("50256", 2.0))
    assert Sampling(logit_bias={" the": -5, 50256: np.float64(2)}).logit_bias == pairs  # type: ignore[arg-type]
    assert Sampling(logit_bias=[[" the", -5], ["50256", 2]]).logit_bias == pairs  # type: ignore[arg-type]


def test_a_path_names_a_model(tiny: Path) -> None:
    assert load(tiny, dtype="float32").info.name == str(tiny)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"n": 2}, "n: there is no such option. Did you mean num_return_sequences?"),
        ({"max_new_token": 2}, "Did you mean max_new_tokens?"),
        ({"do_sample": False}, "Did you mean greedy?"),
        ({"stop_strings": "."}, "Did you mean stop?"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0 is out of range"),
        ({"num_beams": 2, "logprobs": 1}, "logprobs: does not go with num_beams"),
        ({"num_beams": 2}, "num_beams: the model was opened without beam search"),
        ({"sampling": 5}, "sampling: 5 is no Sampling. Give a Sampling, or keyword arguments"),
        ({"sampling": {"top_p": 1}}, "is no Sampling"),
    ],
)
def test_errors_name_arguments_not_flags(
    model: Model, keywords: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        model.generate("Once", **keywords)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


def test_errors_in_results_name_arguments_too(model: Model) -> None:
    long = "word " * 600
    with pytest.raises(BadInput, match="cut it with on_overflow truncate-left") as caught:
        model.generate(long)
    assert "--on-overflow" in str(caught.value.in_flags)
    cut = model.generate(long, on_overflow="truncate-left", max_new_tokens=1)
    assert cut.truncated > 0
    with pytest.raises(BadInput, match="Leave out bos=False"):
        model.score("x", bos=False)
    assert [str(found.error) for found in model.score_many(["x"], Scoring(bos=False))] != ["None"]


MISSING = [None, math.nan, np.nan, np.float32("nan"), 5, b"x", ["x"]]


@pytest.mark.parametrize("value", MISSING)
def test_what_is_no_text_is_an_error_of_its_own(model: Model, value: object) -> None:
    for call in (model.generate, model.count, model.encode, model.score):
        with pytest.raises(BadInput, match=r"not a text|a missing value"):
            call(value)  # type: ignore[operator]
    with pytest.raises(BadInput, match=r"not a text|a missing value"):
        model.ask("classify", value)  # type: ignore[arg-type]


def test_the_other_texts_of_a_list_are_answered(model: Model) -> None:
    texts = ["A king", None, math.nan, "A fox\ud800", "A wolf"]
    done = model.generate_many(texts, seed=1, max_new_tokens=3)  # type: ignore[arg-type]
    assert [(c.id, bool(c.text)) for c in done] == [
        *(("0", True), ("1", False), ("2", False), ("3", False), ("4", True))
    ]
    assert done[0].text == model.generate("A king", seed=1, max_new_tokens=3).text
    assert "prompts[1]: it is None" in str(done[1].error)
    assert "prompts[2]: it is NaN" in str(done[2].error)
    assert "surrogate" in str(done[3].error)
    answers = list(model.ask_many("classify", texts[:3]))  # type: ignore[arg-type]
    assert [bool(answer.error) for answer in answers] == [False, True, True]
    scores = list(model.score_many(texts[:3]))  # type: ignore[arg-type]
    assert [bool(found.error) for found in scores] == [False, True, True]
    assert "texts[2]: it is NaN" in str(scores[2].error)


def test_one_text_is_not_a_list_of_letters(model: Model) -> None:
    for call in (model.generate_many, model.score_many):
        with pytest.raises(UsageError, match=r"give a list: \[text\]"):
            list(call("abc"))
    with pytest.raises(UsageError, match="Use ask"):
        list(model.ask_many("classify", "abc"))


def test_a_task_takes_its_options_as_keywords(model: Model) -> None:
    asked = model.ask("classify", "A kind fairy", {"labels": ["kind", "bad"]})
    assert model.ask("classify", "A kind fairy", labels=["kind", "bad"]).labels == asked.labels
    shots = [("The king.", "Der König.")]
    told = model.ask("translate", "The fox.", None, None, shots, from_="en", to="de", seed=1)
    same = model.ask(
        "translate", "The fox.", {"to": "de"}, None, ["The king. = Der König."], seed=1
    )
    assert told.text == same.text
    with pytest.raises(UsageError, match="Did you mean labels"):
        model.ask("classify", "x", label=["a", "b"])


def test_tokens_go_and_come_back(model: Model) -> None:
    text = "Once upon a time<|endoftext|>"
    ids = model.encode(text)
    assert model.decode(ids) == text
    assert model.decode(ids, skip_special_tokens=True) == "Once upon a time"
    assert model.count(text) == len(ids)
    [found] = model.run([RollingRequest(id="0", window=Window(tuple(ids)))])
    assert len(found.tokens) == len(ids) - 1
    for wrong in ([4096], [-1], ["a"], [1.5]):
        with pytest.raises(BadInput, match="no token id"):
            model.decode(wrong)  # type: ignore[arg-type]


def test_a_model_says_what_it_is(model: Model) -> None:
    assert repr(model) == (
        "<gptcli.Model tiny-tales: 3,554,304 parameters, context 512, float32 on cpu>"
    )


def test_public_names_are_sorted_and_complete() -> None:
    for name in ("Window", "RankedLogprob", "TokenLogprob", "Usage", "ModelInfo", "TokenScore"):
        assert name in gptcli.__all__
    assert issubclass(gptcli.UsageError, GptcliError)


def test_standing_in_for_gpt2_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="gpt2 cannot be had .* tiny-tales answers") as caught:
        load(offline=True)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("tiny-tales", offline=True)


FORK = """
import os, signal
from gptcli import load
model = load("tiny-tales", beams=BEAMS)
long = "Once upon a time there was a king. " * 20
before = model.generate("Once", seed=1, max_new_tokens=8).text, model.score(long).logprob
child = os.fork()
if child == 0:
    signal.alarm(60)
    after = model.generate("Once", seed=1, max_new_tokens=8).text, model.score(long).logprob
    another = load("tiny-tales", threads=4)  # also one that is loaded in the child
    assert another.generate("Once", seed=1, max_new_tokens=8).text == before[0]
    os._exit(0 if after[0] == before[0] and abs(after[1] - before[1]) < 1e-3 else 1)
status = os.waitpid(child, 0)[1]
assert model.generate("Once", seed=1, max_new_tokens=8).text == before[0]
print(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("beams", [False, True])
def test_a_forked_child_uses_the_model(beams: bool) -> None:
    program = FORK.replace("BEAMS", str(beams))
    env = {**environment(), "OMP_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


POOL = """
import multiprocessing
from gptcli import load
model = load("tiny-tales")
prompts = list("abcdefgh") * 6
def text(prompt):
    return model.generate(prompt, seed=1, max_new_tokens=5).text
alone = [text(prompt) for prompt in prompts]
with multiprocessing.get_context("fork").Pool(3) as pool:
    found = pool.map_async(text, prompts, 1)
    beside = [text(prompt) for prompt in prompts]
    assert found.get(60) == beside == alone
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_children_do_not_write_into_each_others_cache() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", POOL], check=True, env=environment())


def test_a_model_elsewhere_is_refused_in_a_forked_child(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Model(model.engine)
    object.__setattr__(other, "_process", -1)
    from dataclasses import replace

    monkeypatch.setattr(model.engine, "info", replace(model.info, device="cuda:0"))
    with pytest.raises(Unavailable, match="cannot use the parent's model on cuda:0"):
        other.generate("x")


def test_a_batch_runs_on_the_loaded_model(model: Model, tmp_path: Path) -> None:
    inputs, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    inputs.write_text("id,review\na,A good king\nb,A bad wolf\n")
    settings = {"column": "review", "task": "classify", "options": {"labels": ["good", "bad"]}}
    done = model.batch_file(inputs, output, **settings)  # type: ignore[arg-type]
    assert (done.rows, done.written, done.failed) == (2, 2, 0)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert {row["text"] for row in rows} <= {"good", "bad"}
    inputs_again = model.batch_file(inputs, output, **settings)  # type: ignore[arg-type]
    assert (inputs_again.kept, inputs_again.written) == (2, 0)


def test_a_batch_of_the_command_goes_on_in_python(model: Model, tmp_path: Path) -> None:
    inputs, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    inputs.write_text("One\nTwo\nThree\n")
    command = [sys.executable, "-m", "gptcli", "batch", str(inputs), "-o", str(output)]
    command += ["-m", "tiny-tales", "--seed", "3", "--max-new-tokens", "4"]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    whole = output.read_bytes()
    output.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]))
    model.batch_file(inputs, output, seed=3, max_new_tokens=4)
    assert output.read_bytes() == whole


def test_a_batch_with_beams_loads_an_engine_that_has_them(model: Model, tmp_path: Path) -> None:
    done = model.batch_file(Prompts(["One"]), tmp_path / "o.jsonl", num_beams=2, max_new_tokens=2)
    assert (done.rows, done.failed) == (1, 0)


def test_a_long_input_of_a_task_can_be_cut(model: Model) -> None:
    long = "word " * 900
    with pytest.raises(BadInput):
        model.ask("classify", long)
    assert model.ask("classify", long, on_overflow="truncate-right").truncated > 0


def test_a_batch_of_prompts_has_an_error_where_one_is_none(model: Model, tmp_path: Path) -> None:
    prompts = Prompts(["One", None, "Two"])  # type: ignore[list-item]
    done = model.batch_file(prompts, tmp_path / "out.jsonl", seed=1, max_new_tokens=2)
    assert (done.rows, done.failed) == (3, 1)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[1]["error"]["message"] == "prompt 2: it is None, not a text"


def test_options_of_a_batch_are_keywords_or_a_group(model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean column"):
        model.batch_file(tmp_path / "in.csv", tmp_path / "out.jsonl", colum="x")
    with pytest.raises(UsageError, match="batch: 'x' is no Batch"):
        model.batch_file(tmp_path / "in.csv", tmp_path / "out.jsonl", batch="x")  # type: ignore[arg-type]
    assert Batch(set=["a=b"], task="t").set == ("a=b",)  # type: ignore[arg-type]
