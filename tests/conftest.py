"""Models that tests run on: a seeded tiny GPT-2 made on the spot, and the bundled tiny-tales."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import hypothesis
import pytest

# No test is timed: on a busy machine any of them may take a second.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
# Programs of the tests find gptcli compiled, as an installed one is: hundreds of them are started.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Before torch is imported: for models this small a second thread only waits for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
TALE = """Once upon a time an old king had three sons, and each of them had a horse. "Whoever
brings me the golden bird," said the king, "shall have my kingdom." So the eldest rode away, and
he came to a great forest where a fox was sitting; but he would not listen to the fox, and lost
his way. The second rode away, and it went no better with him. Then the youngest said: "Father,
let me go." He was good to the fox, and the fox told him everything: where the castle stood, who
watched there, and what he had to say. And when he had found the bird they lived happily together,
until the end of their days."""
BUNDLED = Path(__file__).parent.parent / "gptcli" / "bundled" / "tiny-tales"


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: many tests wait for processes, locks and disks."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 3


def pytest_collection_finish() -> None:
    """Leave thousands of tests, which stay to the end, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's configuration, cache or GPTCLI_ variables, nor the real Hub."""
    home = tmp_path_factory.getbasetemp() / "home"
    for name in [name for name in os.environ if name.startswith("GPTCLI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))


@pytest.fixture
def main_in(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """A function that runs a command line in this process; gives code, stdout, stderr.

    `engine` takes the place of a model.
    """
    from gptcli.cli.main import main

    def main_in(*args: str, stdin: bytes = b"", engine: object = None) -> tuple[int, str, str]:
        if engine is not None:
            monkeypatch.setattr("gptcli.engines.open_engine", lambda *_, **__: engine)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as leaving:
            main(args)
        out, err = capfd.readouterr()
        return int(str(leaving.value.code)), out, err

    return main_in


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, int]]:
    """The reading end of a pipe as a stream, and the descriptor of the writing end."""
    reading, writing = os.pipe()
    stream = os.fdopen(reading, "rb")
    yield stream, writing
    stream.close()
    with suppress(OSError):  # the test closed it
        os.close(writing)


@pytest.fixture(scope="session")
def tales() -> Path:
    """The checkpoint inside the package."""
    return BUNDLED


@pytest.fixture(scope="session")
def tiny_tokenizer_text() -> str:
    """A byte-level BPE of 512 tokens, trained here, as the text of a tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TALE] * 3, trainer)
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_text: str):
    """A function that makes a seeded tiny GPT-2 folder, with any config changes."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    def make(seed: int = 0, **changes: object) -> Path:
        settings = {
            "vocab_size": 512,
            "n_positions": 64,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "initializer_range": 0.3,  # far from uniform, so that an error shows in the logits
            **changes,
        }
        folder = tmp_path_factory.mktemp("tiny")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            GPT2LMHeadModel(GPT2Config(**settings)).eval().save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tiny_tokenizer_text, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "GPT2TokenizerFast", "eos_token": "<|endoftext|>"}'
        )
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny) -> Path:
    """A seeded tiny GPT-2: 2 layers, width 32, 4 heads, context 64, 512 tokens."""
    return make_tiny()


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 that knows the answers in `taught.py` by heart; all workers share it."""
    from support.taught import make

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "taught"
    with (shared / "taught.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it takes a while to learn: whoever comes next waits
        if not (shared / "taught.whole").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (shared / "taught.whole").touch()
    return folder


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each step of the built-in engine runs."""
    from gptcli.engines.gpt2.engine import GPT2Engine

    sizes: list[int] = []
    made = GPT2Engine.__init__

    class Counting:
        """A network that counts the tokens of its steps."""

        def __init__(self, network) -> None:
            self.config, self.new_cache = network.config, network.new_cache
            self._real = network

        def forward_step(self, cache, segments, tokens, wanted=None):
            sizes.append(len(tokens))
            return self._real.forward_step(cache, segments, tokens, wanted)

    def make(self, network, *args, **kwargs) -> None:
        made(self, Counting(network), *args, **kwargs)

    monkeypatch.setattr(GPT2Engine, "__init__", make)
    return sizes
