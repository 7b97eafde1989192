"""Random GPT-2s and random steps of them: every row must be what it is alone.

A step mixes tokens of many sequences, drafts, parts of prompts, ways on from one place, and goes
back over tokens. What is expected of a row is what the same network gives for its text alone, to
the bit, and near that what the reference in NumPy gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
from safetensors.numpy import save_file

from gptcli.checkpoints.architecture import Activation, GPT2Config
from gptcli.checkpoints.preflight import inspect
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.on_cpu.memory import Floats
from gptcli.engines.gpt2.on_cpu.network import CPUNetwork
from gptcli.engines.gpt2.reference import ReferenceNetwork
from gptcli.native import Library
from support.native import DTYPES, at_once, network_of

STORED = (np.float32, np.float32, np.float16, np.float64)
BOUND = 2e-3  # of the logits' standard deviation: the largest difference from the reference


def random_model(random: Random, folder: Path) -> Path:
    """Write a small GPT-2 of a random shape."""
    heads = random.choice([1, 2, 3, 5, 8])
    config = GPT2Config(
        n_head=heads,
        n_embd=heads * random.choice([1, 2, 7, 8, 15, 16, 17, 33, 64, 80]),
        n_inner=random.choice([None, 1, 31, 32, 100, 520]),
        n_layer=random.randint(1, 3),
        n_positions=random.choice([1, 5, 16, 17, 31, 48, 100]),
        vocab_size=random.choice([2, 31, 32, 33, 200, 515]),
        activation_function=random.choice(get_args(Activation)),
        layer_norm_epsilon=random.choice([1e-5, 1e-2]),
        scale_attn_weights=random.random() < 0.8,
        scale_attn_by_inverse_layer_idx=random.random() < 0.3,
        tie_word_embeddings=random.random() < 0.6,
    )
    numbers = np.random.default_rng(random.getrandbits(32))
    stored = random.choice(STORED)

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        scale = 1 / np.sqrt(shape[0]) if len(shape) == 2 and name[:2] == "h." else 0.3
        values = numbers.normal(0, scale, shape)
        values += ".ln_" in f".{name}" and name.endswith("weight")
        # Of 8 bits, so that float16 and bfloat16 hold them as they are.
        step = 2.0 ** np.floor(np.log2(np.abs(values).max() / 128))
        return (np.round(values / step) * step).astype(stored)

    tensors = {name: tensor(name, shape) for name, shape in config.tensors()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    fields = {name: value for name, value in vars(config).items() if name != "eos_token_ids"}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **fields}))
    return folder


@dataclass
class Walk:
    """Random steps over one cache."""

    random: Random
    network: CPUNetwork
    reference: ReferenceNetwork
    dtype: str
    slots: int = 4
    texts: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = self.network.new_cache(self.slots)
        self.texts = [[] for _ in range(self.slots)]

    def step(self) -> None:
        """Run and check one step, or copy a slot. Raises AssertionError."""
        if self.random.random() < 0.2:
            source, target = self.random.sample(range(self.slots), 2)
            length = self.random.randint(0, len(self.texts[source]))
            self.cache.cached_tokens[source] = list(self.texts[source])
            self.cache.copy(source, target, length)
            self.texts[target] = self.texts[source][:length]
            return
        segments = list(self._segments())
        texts = [
            self.texts[segment.slot][: segment.start] + self._tokens(segment.length)
            for segment in segments
        ]
        tokens = [
            token
            for segment, text in zip(segments, texts, strict=True)
            for token in text[segment.start :]
        ]
        count = len(tokens)
        wanted = self.random.choice(
            [None, [], [self.random.randrange(count) for _ in range(self.random.randint(1, count))]]
            if count
            else [None, []]
        )
        found = self.network.forward_step(self.cache, segments, tokens, wanted)
        for segment, text in zip(segments, texts, strict=True):
            self.texts[segment.slot] = text
        rows = [row for pair in zip(segments, texts, strict=True) for row in self._alone(*pair)]
        expected = [rows[place] for place in (range(count) if wanted is None else wanted)]
        assert len(found) == len(expected)
        for row, alone in zip(found, expected, strict=True):
            assert np.array_equal(row, alone), (segments, wanted)

    def _segments(self) -> Iterator[Segment]:
        """Segments of some slots in any order; some slots go on in several ways."""
        length = self.network.config.n_positions
        for slot in self.random.sample(range(self.slots), self.random.randint(1, self.slots)):
            start = len(self.texts[slot])
            if self.random.random() < 0.3:
                start = self.random.randint(0, start)
            for _ in range(self.random.choice([1, 1, 1, 2, 5])):
                most = self.random.choice([1, 1, 4, 9, length])
                yield Segment(slot, start, self.random.randint(0, min(most, length - start)))

    def _tokens(self, count: int) -> list[int]:
        return [self.random.randrange(self.network.config.vocab_size) for _ in range(count)]

    def _alone(self, segment: Segment, text: list[int]) -> Floats:
        """The rows of a segment, from its text alone."""
        if not text:
            return np.empty((0, self.network.config.vocab_size), np.float32)
        alone = at_once(self.network, text)
        assert np.isfinite(alone).all()
        if self.dtype != "I8":  # which rounds activations
            assert_near(alone, self.reference.logits(self.reference.final(text)))
        return alone[segment.start :]


def assert_near(found: Floats, expected: Floats) -> None:
    """`found` differs from the reference by no more than the order of the sums explains."""
    spread = max(float(expected.std()), 0.1)
    assert np.abs(found - expected).max() <= BOUND * spread


def walk(library: Library, folder: Path, seed: int, steps: int) -> None:
    """A random model, in each data type, and random steps of it. Raises AssertionError."""
    random = Random(seed)
    model = random_model(random, folder / str(seed))
    checked = inspect(model)
    assert checked.gpt2 is not None
    reference = ReferenceNetwork(checked.gpt2, checked)
    for dtype in DTYPES:
        network = network_of(library, model, dtype, random.choice([1, 2, 3, 7]))
        one = Walk(random, network, reference, dtype, random.choice([2, 4, 9]))
        for _ in range(steps):
            one.step()
