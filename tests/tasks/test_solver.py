"""Plans run over one engine: what is asked, in which order answers come, what ends early."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice

import pytest
from support.fake_engine import INFO, FakeEngine

from gptcli.errors import BadInput, UsageError
from gptcli.options import Sampling
from gptcli.protocol import Completion, Event, LoglikelihoodRequest, Request, TokenLogprob
from gptcli.tasks.answers import Answer, AnswerChunk, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.schema import parse
from gptcli.tasks.definition.task import Task
from gptcli.tasks.prompts import Wording, worded
from gptcli.tasks.solver import solve

ROOM = replace(INFO, context=1000)
ECHO = 'description = "d"\nprompt = "say {input}"\n'


def task(text: str = ECHO) -> Task:
    return parse(text, "mine", "mine.toml")


def built_in(name: str, **chosen) -> Wording:
    found = catalog.find(name)
    defaults = {option.name: option.default for option in found.options}
    return worded(found, defaults | chosen)


def plain(text: str = ECHO) -> Wording:
    found = task(text)
    return worded(found, {option.name: option.default for option in found.options})


def engine(reply: Callable[[Request], str] = lambda request: request.prompt, **more) -> FakeEngine:
    return FakeEngine(reply=reply, info=ROOM, asked=[], **more)


def answered(
    engine: FakeEngine,
    wording: Wording,
    texts: Iterable[str | None],
    sampling: Sampling | None = None,
    **more,
) -> list[Answer]:
    questions = (None if t is None else Question(str(n), t) for n, t in enumerate(texts))
    found = solve(engine, wording, questions, sampling or Sampling(seed=1), **more)
    return [event for event in found if isinstance(event, Answer)]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def test_every_input_is_answered_in_order() -> None:
    assert texts(answered(engine(), plain(), "abc", batch_size=2)) == ["say a", "say b", "say c"]


def test_none_is_no_question_right_now() -> None:
    assert texts(answered(engine(), plain(), [None, "a", None, None, "b"])) == ["say a", "say b"]


def test_questions_are_pulled_only_when_there_is_room() -> None:
    pulled = count()

    def endless() -> Iterator[Question]:
        for number in pulled:
            yield Question(str(number), "x")

    found = solve(engine(), plain(), endless(), Sampling(), batch_size=2)
    assert len(list(islice((event for event in found if isinstance(event, Answer)), 5))) == 5
    assert next(pulled) < 20


def test_a_question_that_could_not_be_read_fails_alone() -> None:
    bad = BadInput("line 1", "invalid UTF-8", "")
    asked = [Question("1", "", bad)] * 30 + [Question("2", "a")]
    found = list(solve(engine(), plain(), asked, Sampling(), batch_size=2))
    errors = [event.error for event in found if isinstance(event, Answer)]
    assert errors == [bad] * 30 + [None]


def test_an_engine_that_refuses_gives_an_answer_with_the_error() -> None:
    [answer] = answered(FakeEngine(error=BadInput("too long")), plain(), ["a"])
    assert (str(answer.error), answer.finish_reason, answer.text) == ("too long", "error", "")


def test_sequences_of_an_input_are_told_apart() -> None:
    found = answered(engine(), plain(), "ab", Sampling(num_return_sequences=3))
    assert [(a.input, a.index) for a in found] == [(t, i) for t in "ab" for i in range(3)]


def test_pieces_join_to_the_answer_that_follows_them() -> None:
    found = list(solve(engine(), plain(), [Question("0", "it again")], Sampling()))
    *pieces, answer = found
    assert isinstance(answer, Answer)
    assert "".join(piece.text for piece in pieces if isinstance(piece, AnswerChunk)) == answer.text
    assert len(pieces) > 1


def test_what_a_reading_does_not_need_is_not_written() -> None:
    wording = plain(ECHO + '[answer]\nkind = "sentences"\nsentences = 1\n')
    fake = engine(lambda request: " First one. Second one. " * 50)
    [answer] = answered(fake, wording, ["x"])
    assert (answer.text, answer.finish_reason) == ("First one.", "stop")
    assert fake.cancelled == {"1"}


def test_without_a_seed_all_requests_of_an_input_share_one_that_is_told() -> None:
    fake = engine(lambda request: " oui\n")
    [answer] = answered(fake, built_in("translate"), ["One. Two."], Sampling())
    assert fake.asked is not None
    assert {request.sampling.seed for request in fake.asked} == {answer.seed}


def test_translation_goes_sentence_by_sentence_and_keeps_lines() -> None:
    def reply(request: Request) -> str:
        return " <" + request.prompt.rsplit("\n", 1)[1].removesuffix(" =") + ">"

    text = "One day. A king.\n\n  Two\nThree!  "
    [answer] = answered(engine(reply), built_in("translate"), [text])
    assert answer.text == "<One day.> <A king.>\n\n  <Two>\n<Three!>"


def test_the_pieces_of_a_translation_come_in_order() -> None:
    wording = built_in("translate")
    found = list(
        solve(
            engine(lambda r: " oui non"),
            wording,
            [Question("0", "One king. Two sons. Three.")],
            Sampling(),
        )
    )
    said = "".join(event.text for event in found if isinstance(event, AnswerChunk))
    assert said == "oui non oui non oui non"


def test_the_pieces_of_a_part_without_an_answer_keep_its_place() -> None:
    fake = engine(lambda r: "" if r.prompt.endswith("Two sons. =") else " oui")
    asked = [Question("0", "One king.\nTwo sons.\n\nThree.")]
    *pieces, answer = solve(fake, built_in("translate"), asked, Sampling())
    assert isinstance(answer, Answer)
    assert answer.text == "oui\n\n\noui"
    assert "".join(piece.text for piece in pieces if isinstance(piece, AnswerChunk)) == answer.text


@pytest.mark.parametrize(("source", "to"), [("en", "fr"), ("fr", "en"), ("nl", "pt")])
def test_examples_are_those_of_the_pair(source: str, to: str) -> None:
    wording = built_in("translate", **{"from": source, "to": to})
    morning = {
        "en": "Good morning, how are you?",
        "fr": "Bonjour, comment allez-vous ?",
        "nl": "Goedemorgen, hoe gaat het met u?",
        "pt": "Bom dia, como está?",
    }
    assert wording.text("x").startswith(f"{morning[source]} = {morning[to]}\n")
    assert wording.text("x").endswith("\nx =")


LONG = "The king rode out. " * 400


def test_a_long_text_is_summarized_in_parts_and_again() -> None:
    said: list[str] = []
    fake = engine(lambda request: " Short. Sum.\n")
    [answer] = answered(fake, built_in("summarize"), [LONG], say=said.append)
    assert fake.asked is not None
    *parts, last = [request.prompt for request in fake.asked]
    assert len(parts) > 1
    assert "".join(part.removesuffix("\nTL;DR:").rstrip() for part in parts).count("king") == 400
    assert last == "\n".join(["Short. Sum."] * len(parts)) + "\nTL;DR:"
    assert answer.text == "Short. Sum."
    assert f"answering {len(parts)} parts" in said[0]
    assert answer.usage.completion_tokens == 4 * (len(parts) + 1)


def test_a_summary_that_does_not_get_shorter_is_refused() -> None:
    [answer] = answered(engine(lambda r: "x" * 5000), built_in("summarize"), [LONG])
    assert answer.error is not None
    assert answer.error.exit_code == 65


def test_of_parts_without_an_answer_nothing_is_made_up() -> None:
    fake = engine(lambda r: " Made up." if r.prompt == "\nTL;DR:" else " \n")
    [answer] = answered(fake, built_in("summarize"), [LONG])
    assert (answer.text, answer.error) == ("", None)


def test_each_gives_all_parts_and_truncate_one() -> None:
    every = answered(engine(lambda r: " Sum."), built_in("summarize", strategy="each"), [LONG])
    assert len(every[0].text.split("\n")) > 1
    [cut] = answered(engine(lambda r: " Sum."), built_in("summarize", strategy="truncate"), [LONG])
    assert cut.text == "Sum."
    assert cut.truncated > 0
    assert "at its end" in cut.notices[0]


class ByteEngine(FakeEngine):
    """A token is a byte: less than a character."""

    def count(self, text: str) -> int:
        return len(text.encode())


def test_characters_of_several_tokens_are_counted_as_such() -> None:
    fake = ByteEngine(reply=lambda r: " Sum.", info=ROOM, asked=[])
    [answer] = answered(fake, built_in("summarize"), ["😀 " * 300], Sampling(max_new_tokens=100))
    assert answer.error is None
    assert fake.asked is not None
    assert max(fake.count(request.prompt) for request in fake.asked) <= 900


def test_a_template_can_hold_its_input_twice() -> None:
    fake = engine(lambda r: " x")
    wording = plain('description = "d"\nprompt = "{input} = {input}:"\n[long]\nstrategy = "each"\n')
    answered(fake, wording, [LONG])
    assert fake.asked is not None
    assert max(fake.count(request.prompt) for request in fake.asked) <= 1000 - 128


@pytest.mark.parametrize("strategy", ["reduce", "each", "truncate"])
def test_parts_fit_below_max_length(strategy: str) -> None:
    fake = engine(lambda r: " Sum.")
    answered(fake, built_in("summarize", strategy=strategy), [LONG], Sampling(max_length=200))
    assert fake.asked is not None
    assert max(fake.count(request.prompt) for request in fake.asked) <= 200 // 2


def test_a_ratio_is_a_share_of_the_whole_text() -> None:
    wording = built_in("summarize", ratio=0.05)
    [answer] = answered(engine(lambda r: "So it is. " * 30), wording, [LONG])
    assert answer.text.count("So it is.") == 400 * 0.05


def test_the_passage_that_answers_is_read() -> None:
    text = LONG + "The dragon lived in a cave under Oslo. " + LONG
    fake = engine(lambda request: " a cave\n")
    [answer] = answered(fake, built_in("answer", context=text), ["Where lived the dragon?"])
    assert fake.asked is not None
    assert "Oslo" in fake.asked[0].prompt
    assert fake.count(fake.asked[0].prompt) < 1000
    assert "does not fit" in answer.notices[0]


def test_entities_have_their_places_in_the_whole_text() -> None:
    text = LONG + "Anna met Berta. " + LONG
    fake = engine(lambda r: " Anna (person), Berta (person)" if "Anna met" in r.prompt else " none")
    [answer] = answered(fake, built_in("extract"), [text])
    assert answer.entities is not None
    assert [text[e.start : e.end] for e in answer.entities] == ["Anna", "Berta"]
    assert json.loads(answer.text) == [entity.to_dict() for entity in answer.entities]


@pytest.mark.parametrize(
    ("strategy", "side"),
    [("whole", "truncate-left"), ("truncate", "truncate-left"), ("window", "error")],
)
def test_entities_of_a_part_have_their_places_in_the_whole_text(strategy: str, side) -> None:
    names = 'description = "d"\nprompt = "{input}:"\n[answer]\nkind = "spans"\ntypes = ["person"]\n'
    wording = plain(f'{names}[long]\nstrategy = "{strategy}"\n')
    text = LONG + "Anna met Berta. " + "The king rode out. " * 5
    # The window is chosen by what it has in common with the input, which is the text itself.
    fake = engine(lambda r: " Berta (person), king (person)")
    [answer] = answered(fake, wording, [text], on_overflow=side)
    assert answer.entities
    assert [text[e.start : e.end] for e in answer.entities] == [e.text for e in answer.entities]


def likes(request: Request, choice: str) -> float:
    """A model that likes positive better in general, but not here."""
    free = "Review: bad" not in request.prompt.rsplit("\n\n", 1)[-1]
    return {" positive": -1.0, " negative": -3.0 if free else -1.5}[choice]


@pytest.mark.parametrize(
    ("calibration", "label", "share"),
    [
        ("none", "positive", 1 / (1 + 2.718281828459045**-0.5)),
        ("contextual", "negative", 1 / (1 + 2.718281828459045**-1.5)),
        ("pmi", "negative", 1 / (1 + 2.718281828459045**-1.5)),
    ],
)
def test_labels_are_weighed_against_what_the_model_prefers(
    calibration: str, label: str, share: float
) -> None:
    wording = built_in("classify", calibration=calibration)
    [answer] = answered(engine(liking=likes), wording, ["bad"])
    assert answer.labels is not None
    assert answer.text == label
    assert dict(answer.labels)[label] == pytest.approx(share)
    assert sum(dict(answer.labels).values()) == pytest.approx(1)


@pytest.mark.parametrize("ignored", [{"num_return_sequences": 2}, {"num_beams": 2}])
def test_labels_refuse_what_says_how_to_write(ignored: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="nothing is written"):
        answered(engine(liking=likes), built_in("classify"), ["bad"], Sampling(**ignored))


def test_calibration_is_asked_once_for_all_inputs() -> None:
    fake = engine(liking=likes)
    answered(fake, built_in("classify"), ["bad", "bad", "bad"])
    assert fake.asked is not None
    assert len(fake.asked) == 3 + 3  # content-free inputs, then the inputs


@pytest.mark.parametrize(("least", "text"), [(0.9, "unknown"), (0.5, "negative")])
def test_a_label_below_the_bound_is_withheld(least: float, text: str) -> None:
    [answer] = answered(engine(liking=likes), built_in("classify", abstain_below=least), ["bad"])
    assert (answer.text, answer.abstained) == (text, text == "unknown")


def test_what_stands_before_a_label_follows_the_wording() -> None:
    found = catalog.find("classify")
    chosen = {option.name: option.default for option in found.options}
    assert worded(found, chosen).domain == "Sentiment:"
    assert worded(found, chosen | {"labels": ("a", "b")}).domain == "Label:"
    swapped = worded(found, chosen | {"labels": ("negative", "positive")})
    assert swapped.text("x") == worded(found, chosen).text("x")


def test_other_labels_have_no_examples_unless_given() -> None:
    found = catalog.find("classify")
    chosen = {option.name: option.default for option in found.options}
    chosen["labels"] = ("sports", "politics")
    assert worded(found, chosen).text("x") == "Text: x\nLabel:"
    taught = worded(found, chosen, ["He scored = sports"])
    assert taught.text("x") == "Text: He scored\nLabel: sports\n\nText: x\nLabel:"
    with pytest.raises(UsageError):
        worded(found, chosen, ["He scored = cooking"])


@pytest.mark.parametrize("example", ["no pair", " = b", "a = ", ""])
def test_an_example_that_is_no_pair_is_refused(example: str) -> None:
    with pytest.raises(UsageError):
        worded(catalog.find("answer"), {"context": None, "abstain_below": None}, [example])


@pytest.mark.parametrize(("side", "kept"), [("truncate-left", "end"), ("truncate-right", "start")])
def test_an_input_is_cut_where_asked(side, kept: str) -> None:
    text = "start " + "x" * 8000 + " end"
    fake = engine(liking=likes)
    [answer] = answered(fake, built_in("classify"), [text], on_overflow=side)
    assert fake.asked is not None
    prompt = fake.asked[-1].prompt
    assert kept in prompt.rsplit("Review: ", 1)[1]
    assert prompt.startswith("Review: A warm")  # the examples stay
    assert fake.count(prompt) <= 1000
    assert answer.truncated > 0


def test_examples_that_leave_no_room_are_left_out_and_it_is_said() -> None:
    small = FakeEngine(reply=lambda r: " 1945", info=replace(INFO, context=100), asked=[])
    [answer] = answered(small, built_in("answer"), ["When?"])
    assert small.asked is not None
    assert 0 < small.asked[0].prompt.count("Q:") - 1 < 5
    assert "examples left out" in answer.notices[0]


def test_examples_stay_where_a_long_text_is_cut() -> None:
    fake = engine(lambda r: " a cave")
    found = catalog.find("answer")
    chosen = {"context": LONG, "abstain_below": None}
    answered(fake, worded(found, chosen, ["Who slept? = a dog"]), ["Who rode out?"])
    assert fake.asked is not None
    assert "Q: Who slept?\nA: a dog" in fake.asked[0].prompt
    assert fake.count(fake.asked[0].prompt) < 1000


@pytest.mark.parametrize(
    ("tokens", "text", "mean"),
    [
        ("Os lo \n", "Oslo", -1.5),  # a token's place is its log-probability
        ("\ufffd \ufffd \ufffd \ufffd \ufffd \ufffd \n", "漢字", -3.5),
        ("\ufffd \ufffd \ufffd \ufffd \ufffd \ufffd ok \n", "漢字ok", -4),
    ],
)
def test_confidence_is_the_mean_of_the_answers_own_tokens(
    tokens: str, text: str, mean: float
) -> None:
    class Sure(FakeEngine):
        def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
            for event in super().run(requests):
                if isinstance(event, Completion):
                    places = enumerate(tokens.split(" "), 1)
                    scored = tuple(TokenLogprob(n, token, -float(n)) for n, token in places)
                    event = replace(event, logprobs=scored)
                yield event

    fake = Sure(reply=lambda r: text + "\n", info=ROOM)
    [answer] = answered(fake, built_in("answer"), ["Where?"])
    assert (answer.text, answer.mean_logprob) == (text, mean)


def test_a_stop_of_the_users_comes_beside_the_tasks() -> None:
    fake = engine(lambda r: " a")
    answered(fake, built_in("answer"), ["x"], Sampling(stop=(",",)))
    assert fake.asked is not None
    assert fake.asked[0].sampling.stop == ("\n", ",")


def test_labels_are_asked_without_sampling_and_still_say_what_was_changed_in_it() -> None:
    fake = engine()
    [answer] = answered(fake, built_in("classify"), ["x"], Sampling(temperature=1e-9))
    assert fake.asked is not None
    assert {type(request) for request in fake.asked} == {LoglikelihoodRequest}
    assert answer.notices == Sampling(temperature=1e-9).notices


def test_white_space_alone_has_an_empty_translation() -> None:
    assert texts(answered(engine(), built_in("translate"), [" \n ", "\n"])) == ["", ""]


def test_keys_of_an_answer_are_pinned() -> None:
    [answer] = answered(engine(), plain(), ["x"])
    usual = "task id index input text finish_reason usage seed model revision truncated error"
    assert list(answer.to_dict()) == usual.split()
    [label] = answered(engine(liking=likes), built_in("classify"), ["bad"])
    assert list(label.to_dict()) == [*usual.split(), "abstained", "labels"]
    [spans] = answered(engine(lambda r: " none"), built_in("extract"), ["bad"])
    assert spans.to_dict()["entities"] == []
