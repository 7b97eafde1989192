"""Clients that people use, unmodified, against `gptcli serve`.

Each runs in an environment of its own, which a variable names; without it the test is skipped.
.github/CONTRIBUTING.md says how to make them. OpenAI's package for Python is in
test_openai_client.py, `gptcli --server` in test_own_client.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.lm_eval_tasks import STORY, choices_of, write_tasks
from support.served import ServedProcess

import gptcli
from gptcli.protocol import LoglikelihoodRequest

HERE = Path(__file__).parent / "clients"
PYTHON = os.environ.get("GPTCLI_CLIENTS_PYTHON")  # with llm, langchain-openai, litellm, lm_eval
NODE = os.environ.get("GPTCLI_CLIENTS_NODE")  # a folder with node_modules
ASKED: dict[str, Any] = {"max_tokens": 12, "temperature": 0}
BEGIN = "Once upon a time"

with_python = pytest.mark.skipif(
    PYTHON is None, reason="GPTCLI_CLIENTS_PYTHON names no interpreter"
)
with_node = pytest.mark.skipif(NODE is None, reason="GPTCLI_CLIENTS_NODE names no folder")


def output_of(*command: str, **changes: str) -> str:
    """What a client prints; it must succeed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, env={**inherited, **changes}, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout.decode()


def python(*args: str, **changes: str) -> str:
    assert PYTHON is not None
    return output_of(PYTHON, *args, **changes)


def node(script: str, served: ServedProcess) -> dict[str, Any]:
    assert NODE is not None
    printed = output_of("node", str(HERE / script), served.url, NODE)
    return json.loads(printed.splitlines()[-1])


@pytest.fixture(scope="module")
def text(served: ServedProcess) -> str:
    """What every client must show."""
    return served.complete(prompt=BEGIN, **ASKED)["choices"][0]["text"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(served: ServedProcess, text: str):
    body = json.dumps({"prompt": BEGIN, **ASKED})
    whole = output_of("curl", "-sS", f"{served.url}/completions", "--json", body)
    assert json.loads(whole)["choices"][0]["text"] == text
    form = output_of("curl", "-sS", f"{served.url}/completions", "-d", body)  # of another type
    assert json.loads(form)["choices"][0]["text"] == text
    stream = json.dumps({"prompt": BEGIN, "stream": True, **ASKED})
    lines = output_of("curl", "-sSN", f"{served.url}/completions", "-d", stream).split("\n\n")
    pieces = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == text
    assert lines[-2:] == ["data: [DONE]", ""]


@with_python
def test_llm(served: ServedProcess, text: str, tmp_path: Path):
    model = {"model_id": "tales", "model_name": "tiny-tales", "api_base": served.url}
    known = json.dumps([{**model, "completion": True}])  # JSON is YAML
    (tmp_path / "extra-openai-models.yaml").write_text(known)
    ask = ("-m", "llm", "-m", "tales", BEGIN, "-o", "temperature", "0", "-o", "max_tokens", "12")
    for more in ((), ("--no-stream",)):
        assert python(*ask, *more, LLM_USER_PATH=str(tmp_path)) == text + "\n"


@with_python
def test_langchain(served: ServedProcess, text: str):
    found = json.loads(python(str(HERE / "langchain_client.py"), served.url))
    king = served.complete(prompt="The king", **ASKED)["choices"][0]["text"]
    assert found["whole"] == found["streamed"] == text
    assert found["several"] == [text, king]
    assert found["generated"] == [[text], [king]]


@with_python
def test_litellm(served: ServedProcess, text: str):
    found = json.loads(python(str(HERE / "litellm_client.py"), served.url))
    assert found["whole"] == found["streamed"] == text
    assert (found["logprobs"], found["tokens"]) == (12, 16)
    # It sends one prompt a message, and reads the first.
    assert found["first"] == served.complete(prompt="Once", **ASKED)["choices"][0]["text"]


@with_node
def test_openai_for_node(served: ServedProcess, text: str):
    found = node("openai_client.mjs", served)
    assert found["whole"] == found["streamed"] == text
    assert found["models"] == ["tiny-tales"]
    assert (found["choices"], found["logprobs"]) == (2, 12)
    assert found["usage"]["total_tokens"] == 16
    assert found["error"] == ["BadRequestError", 400, "suffix"]


@with_node
def test_vercels_ai_sdk(served: ServedProcess):
    found = node("ai_sdk_client.mjs", served)
    asked = {"prompt": "user:\nWho are you?\n\nassistant:\n", "stop": ["\nuser:"], "seed": 3}
    assert found["whole"] == found["streamed"]
    assert found["whole"] == served.complete(**asked)["choices"][0]["text"]
    assert found["finish"] == "length"


@with_python
def test_lm_eval_measures_what_is_measured_here(
    served: ServedProcess, tales: Path, tales_engine, tmp_path: Path
):
    prompts = [row["text"] for row in choices_of(STORY)[:8]]
    model = gptcli.load(str(tales), offline=True, dtype="float32")
    words = {
        prompt: model.generate(
            prompt, temperature=0, max_new_tokens=20, stop=["\n\n", ".", ";", "!", "?"]
        ).text
        for prompt in map(str, prompts)
    }
    write_tasks(tmp_path, STORY, words)
    rows, texts = (
        [json.loads(line) for line in (tmp_path / f"tales_{name}.jsonl").read_text().splitlines()]
        for name in ("choices", "perplexity")
    )
    script = str(HERE / "lm_eval_client.py")
    home = str(tmp_path / "home")
    printed = python(script, served.url, str(tmp_path), str(tales), HF_HOME=home)
    ways = json.loads(printed.splitlines()[-1])["ways"]
    requests = [
        LoglikelihoodRequest(id=str(place), prompt=row["text"], choices=tuple(row["choices"]))
        for place, row in enumerate(rows)
    ]
    answers = {answer.id: answer for answer in tales_engine.run(iter(requests))}
    sums = [[one.total for one in answers[str(place)].choices] for place in range(len(rows))]
    right = [
        totals.index(max(totals)) == row["gold"] for totals, row in zip(sums, rows, strict=True)
    ]
    short = [
        model.score(row["text"]).logprob
        for row in texts
        if len(tales_engine.tokenizer.encode(row["text"])) < 510
    ]
    first = next(iter(ways.values()))["samples"]
    for name, way in ways.items():
        close = 1e-3 if name == "hf" else 1e-6  # torch's sums are others
        assert way["metrics"]["tales_choices/acc"] == sum(right) / len(right), name
        for found, own in zip(way["samples"]["tales_choices"], sums, strict=True):
            assert [logprob for logprob, _ in found] == pytest.approx(own, abs=close), name
        assert way["metrics"]["tales_words/exact_match"] == 1, name
        scored = [one for each in way["samples"]["tales_perplexity"] for one in each]
        assert scored[: len(short)] == pytest.approx(short, abs=close), name
        flags = [[greedy for _, greedy in each] for each in way["samples"]["tales_choices"]]
        assert flags == [[greedy for _, greedy in each] for each in first["tales_choices"]], name
        assert any(map(any, flags)), name
    perplexities = [way["metrics"]["tales_perplexity/byte_perplexity"] for way in ways.values()]
    assert perplexities == pytest.approx([perplexities[0]] * len(ways), rel=1e-6)
