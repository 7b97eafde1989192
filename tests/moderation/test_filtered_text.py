"""An engine behind a filter: nothing of a match leaves, whatever is asked and however it comes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine
from support.spellings import disguised, random_phrase

from gptcli import load
from gptcli.engines import open_engine
from gptcli.moderation.engine import NEXT_SEED, Filter, Moderated
from gptcli.moderation.judges import Phrases
from gptcli.moderation.lists import PhraseList
from gptcli.moderation.phrases import phrase
from gptcli.options import Sampling
from gptcli.options.moderation import FilterAction, ModeratedLoad
from gptcli.protocol import Chunk, Completion, Engine, Event, GenerateRequest, Request
from gptcli.writing import written

ROUNDS = int(os.environ.get("GPTCLI_LEAKS", "500"))


def filter_of(*texts: str, action: FilterAction = "stop", retries: int = 8) -> Filter:
    own = (phrase(text, "own", number) for number, text in enumerate(texts, 1))
    return Filter((Phrases([PhraseList("own", "0" * 64, tuple(own))]),), action, retries)


def behind(
    engine: Engine, *texts: str, action: FilterAction = "stop", retries: int = 8
) -> Moderated:
    return Moderated(engine, filter_of(*texts, action=action, retries=retries))


def saying(*chunks: str) -> FakeEngine:
    return FakeEngine(tuple(chunks))


def ask(prompt: str | tuple[int, ...] = "It:", **settings: object) -> GenerateRequest:
    return GenerateRequest(id="1", prompt=prompt, sampling=Sampling(**settings))  # type: ignore[arg-type]


def outcome(engine: Engine, request: GenerateRequest) -> tuple[list[str], Completion]:
    """The chunks' texts and the completion of one sequence."""
    events = list(engine.run([request]))
    chunks = [event.text for event in events if isinstance(event, Chunk)]
    [done] = [event for event in events if isinstance(event, Completion)]
    assert "".join(chunks) == done.text
    return chunks, done


def test_the_text_before_a_match_leaves_and_nothing_more() -> None:
    engine = behind(saying(" was", " a bl", "orp", "twig", " and", " more"), "blorptwig")
    chunks, done = outcome(engine, ask())
    assert chunks[:3] == [" was", " a ", ""]
    assert (done.text, done.finish_reason) == (" was a ", "content_filter")
    assert done.filter == {
        "action": "stop",
        "lists": {"own": "0" * 64},
        "matches": [{"start": 7, "list": "own", "entry": 1}],
    }
    assert done.notices == ("the filter ended a text before a match",)


def test_a_match_is_masked_letter_by_letter() -> None:
    engine = behind(saying(" a b.l", "orp  tw", "ig, blorp"), "blorp twig", action="mask")
    _, done = outcome(engine, ask())
    assert (done.text, done.finish_reason) == (" a ******  ****, blorp", "length")
    assert done.filter
    assert done.filter["matches"] == [{"start": 3, "end": 15, "list": "own", "entry": 1}]


def test_a_report_changes_and_holds_back_nothing() -> None:
    engine = behind(saying(" a bl", "orp", "twig"), "blorptwig", action="report")
    chunks, done = outcome(engine, ask())
    assert chunks[:3] == [" a bl", "orp", "twig"]
    assert done.notices == ("the filter found a match; JSON lists it",)
    assert done.filter
    assert done.filter["matches"] == [
        {"start": 3, "end": 12, "list": "own", "entry": 1, "text": "blorptwig"}
    ]


def drafts(*texts: str) -> FakeEngine:
    """An engine whose text depends on the seed, counted from 7."""
    return FakeEngine(reply=lambda request: texts[((request.sampling.seed or 7) - 7) % len(texts)])


def test_a_draft_with_a_match_is_drawn_again_from_the_next_seed() -> None:
    inner = drafts("one blorptwig", "blorptwig", "the third is fine")
    inner.asked = []
    chunks, done = outcome(behind(inner, "blorptwig", action="retry"), ask(seed=7))
    assert [one.sampling.seed for one in inner.asked] == [7, 7 + NEXT_SEED, 7 + 2 * NEXT_SEED]  # type: ignore[union-attr]
    assert [text for text in chunks if text] == ["the third is fine"]
    assert (done.id, done.seed, done.finish_reason) == ("1", 7, "length")
    assert done.filter
    assert done.filter["retries"] == 2
    assert done.filter["matches"] == [{"list": "own", "entry": 1}] * 2


class SideBySide(FakeEngine):
    """All sequences of a request are under way before the first ends."""

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        for request in requests:
            assert isinstance(request, GenerateRequest)
            assert self.asked is not None
            self.asked.append(request)
            events = [list(self._sequence(request, index)) for index in range(request.results)]
            for chunk, *_ in events:
                yield chunk
            for *_, done in events:
                gone = request.id in self.cancelled
                yield replace(done, finish_reason="cancelled") if gone else done


def test_no_sequence_of_a_cancelled_request_is_drawn_again() -> None:
    inner = SideBySide(reply=lambda request: "a blorptwig ran", asked=[])
    engine = behind(inner, "blorptwig", action="retry")
    done = []
    for event in engine.run([ask(seed=7, num_return_sequences=3)]):
        if isinstance(event, Completion):
            done.append(event)
        else:
            engine.cancel("1")
    assert len(inner.asked or ()) == 1
    assert sorted(one.index for one in done) == [0, 1, 2]
    assert all("blorptwig" not in one.text for one in done)


def test_seeds_of_drafts_differ_for_servers_that_read_few_bits() -> None:
    for bits in (31, 32):
        drawn = {(7 + attempt * NEXT_SEED) % 2**bits for attempt in range(101)}
        assert len(drawn) == 101


def test_the_number_of_drafts_is_bounded() -> None:
    inner = drafts("a blorptwig")
    inner.asked = []
    _, done = outcome(behind(inner, "blorptwig", action="retry", retries=3), ask())
    assert (done.text, done.tokens, done.finish_reason) == ("", (), "content_filter")
    assert len(inner.asked) == 4
    inner.asked.clear()
    _, done = outcome(behind(inner, "blorptwig", action="retry"), ask(greedy=True))
    assert (done.text, len(inner.asked)) == ("", 1)
    assert "nothing is random" in done.notices[0]


@dataclass
class Each(FakeEngine):
    """Sequences take turns; each has its own text, a character at a time."""

    texts: tuple[str, ...] = ()
    ended: list[str] = field(default_factory=list)

    def run(self, requests: object) -> Iterator[Event]:
        for request in requests:  # type: ignore[attr-defined]
            if request is None:
                continue
            texts = self.texts if request.results > 1 else ("drawn again",)
            for place in range(max(map(len, texts))):
                for index, text in enumerate(texts):
                    if place < len(text):
                        yield Chunk(id=request.id, index=index, text=text[place], tokens=(1,))
            for index, text in enumerate(texts):
                whole = replace(request, sampling=replace(request.sampling, num_return_sequences=1))
                done = next(iter(saying(text)._sequence(whole, 0)), None)
                assert done is not None
                *_, completion = saying(text)._sequence(whole, index)
                self.ended.append(text)
                yield completion


@pytest.mark.parametrize("action", ["stop", "mask", "retry"])
def test_each_of_several_sequences_has_its_own_fate(action: FilterAction) -> None:
    inner = Each(texts=(" a blorptwig was", " it was fine", " blorptwigs"))
    events = list(behind(inner, "blorptwig", action=action).run([ask(num_return_sequences=3)]))
    done = {one.index: one for one in events if isinstance(one, Completion)}
    texts = {
        index: "".join(one.text for one in events if isinstance(one, Chunk) and one.index == index)
        for index in range(3)
    }
    first = {"stop": " a ", "mask": " a ********* was", "retry": "drawn again"}[action]
    assert texts == {0: first, 1: " it was fine", 2: " blorptwigs"}
    assert {index: one.text for index, one in done.items()} == texts
    assert {one.id for one in done.values()} == {"1"}


@pytest.mark.parametrize(
    ("prompt", "said", "text"),
    [
        ("the blorp", "twig is", ""),  # it ends in the answer
        ("the blorptwig", " is", " is"),  # it is the prompt's
        ("the blorptwig", "s are", "s are"),  # no match at all
        ("a b l o r p t w", " i g.", ""),
        ("the blorptwig and", " the blorptwig", " the "),
    ],
)
def test_a_match_that_ends_in_the_answer_counts(prompt: str, said: str, text: str) -> None:
    assert outcome(behind(saying(said), "blorptwig"), ask(prompt))[1].text == text


def allowed(text: str, action: FilterAction, start: int, end: int) -> str:
    """What may have left at the end."""
    if action == "mask":
        masked = "".join(one if one.isspace() else "*" for one in text[start:end])
        return text[:start] + masked + text[end:]
    return text[:start] if action == "stop" else ""


def test_no_phrase_leaks_however_the_stream_is_cut() -> None:
    chance, leaked = random.Random(11), 0
    for number in range(ROUNDS):
        words = random_phrase(chance)
        match = disguised(words, chance)
        before, after = (
            chance.choice(("Well, ", "", "it is\n", "“")),
            chance.choice((". X", " y", "")),
        )
        text = before + match + after
        action: FilterAction = chance.choice(("stop", "mask", "retry"))
        expected = allowed(text, action, len(before), len(before) + len(match))
        cuts = [[text[:at], text[at:]] for at in range(1, len(text))] + [list(text)]
        for pieces in (
            cuts if ROUNDS > 500 or number % 25 == 0 else cuts[:: len(cuts) // 3 + 1] + cuts[-1:]
        ):
            engine = behind(saying(*pieces), words, action=action, retries=1)
            given = ""
            for event in engine.run([ask(greedy=True)]):
                if isinstance(event, Chunk):
                    given += event.text
                    leaked += not expected.startswith(given)
                elif isinstance(event, Completion):
                    leaked += event.text != expected or given != expected
            assert not leaked, (words, pieces, action, given, expected)
    assert leaked == 0


@pytest.fixture(scope="module")
def tales_engine(tales: Path) -> Engine:
    return open_engine(ModeratedLoad(model=str(tales)))


PROMPT = "Once upon a time"


def test_no_token_and_no_logprob_of_a_match_leaves(tales_engine: Engine) -> None:
    """Also beside stop strings, which hold text back by themselves."""
    plain = ask(PROMPT, seed=1, max_new_tokens=40, logprobs=4, stop=(" old manx", "zzzzzz"))
    _, free = outcome(tales_engine, plain)
    words = {word.strip(',."') for word in free.text.split()} - {""}
    ids = tales_engine.tokenizer
    for word in sorted(words, key=len)[-6:]:
        for action in ("stop", "mask"):
            engine = behind(tales_engine, word, action=action)
            events = list(engine.run([plain]))
            [done] = [event for event in events if isinstance(event, Completion)]
            streamed = [one for event in events if isinstance(event, Chunk) for one in event.tokens]
            assert word.casefold() not in ids.decode(done.tokens).casefold()
            assert tuple(streamed) == done.tokens
            assert len(done.logprobs or ()) == len(done.tokens)
            tops = [other.token.strip() for one in done.logprobs or () for other in one.top]
            assert word not in [one.token.strip() for one in done.logprobs or ()]
            assert word not in tops


def test_a_text_without_a_match_is_what_it_was(tales_engine: Engine) -> None:
    request = ask(PROMPT, seed=2, max_new_tokens=30, logprobs=2, num_return_sequences=2)
    plain = [one for one in tales_engine.run([request]) if isinstance(one, Completion)]
    for action in ("stop", "mask", "retry", "report"):
        engine = behind(tales_engine, "blorptwig", action=action)
        found = [one for one in engine.run([request]) if isinstance(one, Completion)]
        by_index = sorted(found, key=lambda one: one.index)
        assert [replace(one, filter=None) for one in by_index] == [
            replace(one, usage=now.usage)
            for one, now in zip(sorted(plain, key=lambda one: one.index), by_index, strict=True)
        ]


@pytest.mark.parametrize("action", ["stop", "mask", "retry"])
def test_a_match_across_two_windows_of_a_long_text_is_one(action: FilterAction) -> None:
    class Long(FakeEngine):
        """Each window writes what its prompt lacks of a text."""

        def run(self, requests: object) -> Iterator[Event]:
            for request in requests:  # type: ignore[attr-defined]
                if request is not None:
                    whole = "It is the blorp twig here. " * 30
                    at = len(request.prompt) if request.id == "1" else whole.index(" twig")
                    room = 4 * (request.sampling.max_new_tokens or 0)
                    text = whole[at : at + room] if request.sampling.seed != 8 else "x" * room
                    self.script = tuple(text)
                    yield from self._sequence(request, 0)

    request = ask("It", max_new_tokens=200, seed=7)
    _, done = outcome(behind(Long(), "blorp twig", action=action, retries=1), request)
    events = list(written(behind(Long(), "blorp twig", action=action, retries=1), request, True))
    given = "".join(event.text for event in events if isinstance(event, Chunk))
    assert "blorp twig" not in given
    assert done.filter is not None


def test_python_and_the_command_line_have_the_same_filter(
    tales: Path, tmp_path: Path, main_in
) -> None:
    words = tmp_path / "own.txt"
    words.write_text("time\nking\n")
    model = load(str(tales), filter=str(words), filter_action="mask")
    done = model.generate("Once upon a", seed=1, max_new_tokens=30)
    assert "king" not in done.text
    assert list(model.stream("Once upon a", seed=1, max_new_tokens=30))
    flags = ("-m", str(tales), "--seed", "1", "--max-new-tokens", "30", "--no-echo")
    code, out, _ = main_in(
        *("generate", "Once upon a", *flags, "--filter", str(words), "--filter-action", "mask")
    )
    assert (code, out) == (0, done.text + "\n")
    code, out, err = main_in("generate", "Once upon a", *flags, "--filter", str(words))
    assert (code, err) == (4, "gptcli: note: the filter ended a text before a match\n")
    assert done.text.startswith(out.rstrip("\n"))
