"""Texts beyond the context: whole sentences stay in the window, and the seed holds."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from support.fake_engine import INFO, FakeEngine

from gptcli.engines import open_engine
from gptcli.errors import UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Chunk, Completion, Engine, Event, GenerateRequest, Request, Usage
from gptcli.system.text.sentences import sentences
from gptcli.writing import check, written


@dataclass
class Windows(FakeEngine):
    """A model that writes `story` on, a character a token; a context is `INFO.context` of them."""

    story: str = ""
    asked: list[Request] | None = field(default_factory=list)
    given: int = 0

    def count(self, text: str) -> int:
        return len(text)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        for request in requests:
            assert isinstance(request, GenerateRequest)
            assert self.asked is not None
            self.asked.append(request)
            wanted = request.sampling.max_new_tokens or 0
            assert len(request.prompt) + wanted <= self.info.context
            text = self.story[self.given : self.given + wanted]
            self.given += len(text)
            for character in text:
                yield Chunk(id=request.id, index=0, text=character, tokens=(1,))
            yield Completion(
                id=request.id,
                index=0,
                prompt=request.prompt,
                text=text,
                tokens=(1,) * len(text),
                finish_reason="length" if len(text) == wanted else "stop",
                usage=Usage(prompt_tokens=len(request.prompt), completion_tokens=len(text)),
                seed=5 if request.sampling.seed is None else request.sampling.seed,
                model="fake",
                revision=None,
            )


STORY = "".join(f" Then number {number} came along." for number in range(40))


def tell(
    engine: Engine, prompt: str, beyond: bool = False, **sampling: object
) -> tuple[str, Completion]:
    request = GenerateRequest(id="0", prompt=prompt, sampling=Sampling(**sampling))  # type: ignore[arg-type]
    *chunks, done = written(engine, request, beyond)
    assert isinstance(done, Completion)
    text = "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk))
    assert text == done.text
    return text, done


def windows(engine: Windows) -> list[GenerateRequest]:
    return [request for request in engine.asked or () if isinstance(request, GenerateRequest)]


def test_what_fits_is_run_as_it_is() -> None:
    engine = Windows(story=STORY)
    tell(engine, "Once.", max_new_tokens=20)
    assert windows(engine) == [
        GenerateRequest(id="0", prompt="Once.", sampling=Sampling(max_new_tokens=20))
    ]


def test_more_than_fits_is_written_by_windows_of_whole_sentences() -> None:
    engine = Windows(story=STORY)
    text, done = tell(engine, "Once.", max_new_tokens=400, seed=7)
    assert text == STORY[:400]
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (5, 400)
    assert (done.seed, done.finish_reason, done.truncated, len(done.tokens)) == (
        7,
        "length",
        0,
        400,
    )
    first, *others = windows(engine)
    assert first.prompt == "Once."
    assert len(others) > 3
    whole = "Once." + STORY
    borders = {start for start, _ in sentences(whole)}
    for request in others:
        assert whole.index(request.prompt) in borders
    assert [request.sampling.seed for request in windows(engine)] == list(
        range(7, 7 + len(others) + 1)
    )


def test_the_least_number_of_tokens_is_that_of_the_whole_text() -> None:
    engine = Windows(story=STORY)
    tell(engine, "Once.", max_new_tokens=300, min_new_tokens=70)
    least = [request.sampling.min_new_tokens for request in windows(engine)]
    first = windows(engine)[0].sampling.max_new_tokens or 0
    assert least[:2] == [70, 70 - first]
    assert set(least[3:]) == {0}


def test_it_is_said_once() -> None:
    assert len(tell(Windows(story=STORY), "Once.", max_new_tokens=400)[1].notices) == 1


def test_a_prompt_beyond_the_context_begins_with_its_last_sentences() -> None:
    engine = Windows(story=STORY)
    prompt = "A first sentence that is long. " * 5 + "And the last one."
    kept = "A first sentence that is long. And the last one."
    text, done = tell(engine, prompt, beyond=True, max_new_tokens=10)
    assert text == STORY[:10]
    assert windows(engine)[0].prompt == kept
    assert done.truncated == len(prompt) - len(kept)
    assert done.usage.prompt_tokens == len(prompt)


def test_a_sentence_longer_than_the_window_is_cut_between_words() -> None:
    engine = Windows(story=STORY)
    tell(engine, "word " * 30, beyond=True, max_new_tokens=10)
    assert windows(engine)[0].prompt.startswith("word ")
    tell(engine, "x" * 100, beyond=True, max_new_tokens=10)
    assert set(windows(engine)[-1].prompt) == {"x"}


@pytest.mark.parametrize("stop", ["END", "came", "number 1 came"])
@pytest.mark.parametrize("shift", range(6))
def test_a_stop_string_may_lie_across_two_windows(stop: str, shift: int) -> None:
    story = "x" * (INFO.context - 8 + shift) + " END" + STORY
    text, done = tell(Windows(story=story), "Once.", max_new_tokens=300, stop=(stop,))
    assert text == story[:300].partition(stop)[0]
    assert done.finish_reason == "stop"


def test_what_only_looks_like_a_stop_string_is_given_out() -> None:
    text, done = tell(Windows(story="x" * 99 + "EN"), "Once.", max_new_tokens=300, stop=("END",))
    assert (text, done.finish_reason) == ("x" * 99 + "EN", "stop")


def test_half_a_character_at_the_edge_is_written_by_the_next_window() -> None:
    edge = INFO.context - len("Once.")
    story = "x" * (edge - 1) + "\ufffd" + "é" + "y" * 200
    text, _ = tell(Windows(story=story), "Once.", max_new_tokens=100)
    assert text == "x" * (edge - 1) + "é" + "y" * (100 - edge - 1)


@pytest.mark.parametrize(
    "sampling",
    [{"num_return_sequences": 2}, {"num_beams": 2}, {"logprobs": 1}, {"max_length": 600}],
)
def test_what_does_not_go_with_it_is_refused_or_run_as_it_is(sampling: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        check(Sampling(**sampling))  # type: ignore[arg-type]
    engine = FakeEngine(asked=[])
    request = GenerateRequest(
        id="0",
        prompt="x",
        sampling=Sampling(max_new_tokens=999, **sampling),  # type: ignore[arg-type]
    )
    list(written(engine, request))
    assert engine.asked == [request]


def test_the_same_seed_writes_the_same_long_text_and_begins_as_a_short_one() -> None:
    engine = open_engine(Load(model="tiny-tales", offline=True))
    long, done = tell(engine, "Once upon a time", max_new_tokens=700, seed=3)
    assert tell(engine, "Once upon a time", max_new_tokens=700, seed=3)[0] == long
    assert long.startswith(tell(engine, "Once upon a time", max_new_tokens=100, seed=3)[0])
    assert done.usage.completion_tokens == 700
    other = replace(Sampling(max_new_tokens=700), seed=4)
    assert tell(engine, "Once upon a time", max_new_tokens=700, seed=other.seed)[0] != long


def test_a_window_in_chinese_begins_with_a_whole_sentence_or_else_a_clause() -> None:
    engine = Windows(story="春天来了，花都开了。鸟儿在树上唱歌。" * 20)
    text, _ = tell(engine, "从前有一只狐狸。", max_new_tokens=200)
    assert len(text) == 200
    assert engine.asked is not None
    begun = [request.prompt for request in engine.asked if isinstance(request, GenerateRequest)]
    assert all(window.startswith(("从前", "春天", "鸟儿")) for window in begun)
    engine = Windows(story="春天来了，花都开了，" * 40)
    tell(engine, "从前有一只狐狸，", max_new_tokens=200)
    assert engine.asked is not None
    begun = [request.prompt for request in engine.asked if isinstance(request, GenerateRequest)]
    assert len(begun) > 3
    assert all(window.startswith(("从前", "春天来了，", "花都开了，")) for window in begun)
