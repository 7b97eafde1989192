"""What needs more than a plain machine: the real GPT-2, a GPU."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from support.commands import REAL, run
from transformers import GPT2LMHeadModel

from gptcli.engines import open_engine
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, Engine, GenerateRequest
from gptcli.system.text.sentences import sentences

# Read when the module is: later every test has a home of its own.
HOME = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
CACHE = Path(os.environ.get("HF_HUB_CACHE", HOME / "hub")).expanduser()
PROMPTS = [
    "Once upon a time",
    "In a shocking finding, scientist discovered a herd of unicorns living in a remote valley",
    "The capital of France is",
]


def real_gpt2() -> Path | None:
    """The snapshot of gpt2 in the user's cache."""
    found = CACHE.glob("models--openai-community--gpt2/snapshots/*/model.safetensors")
    return next((file.parent for file in found), None)


def texts(engine: Engine, sampling: Sampling) -> list[Completion]:
    asked = [GenerateRequest(id=str(n), prompt=p, sampling=sampling) for n, p in enumerate(PROMPTS)]
    done = [event for event in engine.run(asked) if isinstance(event, Completion)]
    return sorted(done, key=lambda completion: int(completion.id))


@pytest.mark.model
@pytest.mark.skipif(real_gpt2() is None, reason="gpt2 is not in the Hugging Face cache")
def test_greedy_tokens_of_gpt2_equal_those_of_transformers() -> None:
    folder = real_gpt2()
    engine = open_engine(Load(model=str(folder)), 3)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    for done in texts(engine, Sampling(greedy=True, max_new_tokens=40)):
        ids = torch.tensor([engine.tokenizer.encode(done.prompt)])
        out = model.generate(ids, do_sample=False, max_new_tokens=40, pad_token_id=50256)
        assert list(done.tokens) == out[0, ids.shape[1] :].tolist()


@pytest.mark.model
@pytest.mark.skipif(real_gpt2() is None, reason="gpt2 is not in the Hugging Face cache")
def test_gpt2_knows_the_capital_of_france() -> None:
    engine = open_engine(Load(model=str(real_gpt2())))
    sampling = Sampling(greedy=True, max_new_tokens=1, logprobs=50)
    logprobs = texts(engine, sampling)[2].logprobs
    assert logprobs is not None
    assert " Paris" in [other.token for other in logprobs[0].top]


def said(*args: str) -> str:
    """What a command writes with the real GPT-2, without the line break at its end."""
    done = run(REAL, *args, "-m", str(real_gpt2()), "--offline")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().removesuffix("\n")


@pytest.mark.model
@pytest.mark.skipif(real_gpt2() is None, reason="gpt2 is not in the Hugging Face cache")
def test_gpt2_summarizes_in_three_sentences_at_most() -> None:
    text = (
        "The city council voted on Tuesday to close the old bridge. Engineers had found cracks in"
        " two of its pillars. Drivers will have to take the ferry until a new bridge is built,"
        " which the mayor said could take three years and cost forty million dollars."
    )
    assert 1 <= len(sentences(said("summarize", "--seed", "1", text))) <= 3


@pytest.mark.model
@pytest.mark.skipif(real_gpt2() is None, reason="gpt2 is not in the Hugging Face cache")
def test_gpt2_translates_into_french_words() -> None:
    written = said("translate", "Good morning, where is the house?").lower()
    french = {"bonjour", "où", "est", "la", "le", "les", "maison", "de", "je", "vous", "nous", "ne"}
    assert french & set(re.findall(r"\w+", written)), written


@pytest.mark.model
@pytest.mark.skipif(real_gpt2() is None, reason="gpt2 is not in the Hugging Face cache")
def test_gpt2_answers_with_the_capital_of_france() -> None:
    assert "Paris" in said("answer", "What is the capital of France?")


@pytest.mark.model
@pytest.mark.skipif(real_gpt2() is None, reason="gpt2 is not in the Hugging Face cache")
@pytest.mark.parametrize(
    ("review", "label"),
    [
        ("An excellent film, wonderful from beginning to end. I loved it.", "positive"),
        ("A terrible film, boring from beginning to end. I hated it.", "negative"),
    ],
)
def test_gpt2_tells_a_good_review_from_a_bad_one(review: str, label: str) -> None:
    assert said("classify", review) == label


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_in_float32_writes_what_a_cpu_writes(tales: Path) -> None:
    sampling = Sampling(seed=1, max_new_tokens=40)
    there = open_engine(Load(model=str(tales), device="cuda", dtype="float32"), 3)
    here = open_engine(Load(model=str(tales), device="cpu"), 3)
    assert [c.text for c in texts(there, sampling)] == [c.text for c in texts(here, sampling)]


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_is_chosen_and_computes_in_16_bits(tales: Path) -> None:
    engine = open_engine(Load(model=str(tales)), 3)
    assert engine.info.device.startswith("cuda")
    assert engine.info.dtype in ("bfloat16", "float16")
    assert all(done.tokens for done in texts(engine, Sampling(seed=1, max_new_tokens=20)))
