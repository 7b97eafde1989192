"""Texts that a model in training writes: by gptcli's own engine, from a checkpoint on the disk.

The engine is opened for each occasion and dropped after it, on the CPU, so that it takes no memory
of the device that trains. Where memory is short, nothing is written, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from gptcli.errors import GptcliError
from gptcli.options import Load, Sampling
from gptcli.system import memory
from gptcli.system.units import model_size
from gptcli.training.options import TrainOptions

if TYPE_CHECKING:
    from gptcli.protocol import Engine

TOKENS = 60  # of a sample
AT_ONCE = 8  # texts
ROOM = 1.5  # times the bytes of the weights, that must be free
Prompt = str | tuple[int, ...]
Written = tuple[int, ...]


class SampleWriter:
    """Lets the model of a checkpoint write; `say` takes what went wrong, which ends no run."""

    def __init__(self, options: TrainOptions, say: Callable[[str], object]) -> None:
        self._options, self._say = options, say
        self._told = ""

    def samples(self, checkpoint: Path, step: int) -> tuple[str, ...]:
        """A text for each --sample-prompt, or one from the end token."""
        prompts = self._options.following.sample_prompt or ("",)
        sampling = Sampling(max_new_tokens=TOKENS, seed=self._options.optimization.seed)
        found: list[str] = []
        with self._opened(checkpoint, len(prompts)) as engine:
            if engine is not None:
                asked = [(prompt, sampling) for prompt in prompts]
                done = dict(_run(engine, asked))
                found = [prompts[number] + done[number][0] for number in sorted(done)]
        return tuple(found)

    def continued(
        self, model: Path, prompts: Sequence[Prompt], sampling: Sampling, seconds: float
    ) -> dict[int, Written]:
        """The new tokens for each prompt that the time allows, by its number. Seeds differ."""
        deadline = monotonic() + seconds
        found: dict[int, Written] = {}
        with self._opened(model, AT_ONCE) as engine:
            for first in range(0, len(prompts) if engine is not None else 0, AT_ONCE):
                if found and monotonic() > deadline:
                    break
                asked = [
                    (prompt, replace(sampling, seed=(sampling.seed or 0) + first + number))
                    for number, prompt in enumerate(prompts[first : first + AT_ONCE])
                ]
                assert engine is not None
                found |= {first + number: ids for number, (_, ids) in _run(engine, asked)}
        return found

    @contextmanager
    def _opened(self, checkpoint: Path, slots: int) -> Iterator[Engine | None]:
        """The engine for a checkpoint; None, after a word, where it cannot be had."""
        from gptcli.engines import open_engine

        weights = checkpoint.glob("*model.safetensors")
        need = ROOM * sum(file.stat().st_size for file in weights)
        free = memory.available()
        if need > free:
            what = f"about {model_size(int(need))} are needed, and {model_size(free)} are free"
            self._tell(f"no sample texts: {what}")
            yield None
            return
        try:
            engine = open_engine(self._load(checkpoint), min(slots, AT_ONCE))
        except GptcliError as error:
            self._tell(f"no sample texts: {error.message}")
            yield None
            return
        try:
            yield engine
        except GptcliError as error:
            self._tell(f"no sample texts: {error.message}")

    def _load(self, checkpoint: Path) -> Load:
        model = self._options.model
        load = Load(device="cpu", threads=model.threads, offline=model.offline)
        if not model.lora:
            return replace(load, model=str(checkpoint))
        base = replace(load, model=model.from_, revision=model.revision)
        return replace(base, adapter=(str(checkpoint),))

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(text)


def _run(
    engine: Engine, asked: Sequence[tuple[Prompt, Sampling]]
) -> Iterator[tuple[int, tuple[str, Written]]]:
    """Number, text and new tokens of each. Raises what an engine says of one that failed."""
    from gptcli.protocol import Completion, GenerateRequest

    requests = [
        GenerateRequest(
            id=str(number),
            prompt=prompt,
            sampling=sampling,
            on_overflow="truncate-left",
            shown=False,
        )
        for number, (prompt, sampling) in enumerate(asked)
    ]
    for event in engine.run(requests):
        if isinstance(event, Completion):
            if event.error is not None:
                raise event.error
            yield int(event.id), (event.text, event.tokens)
