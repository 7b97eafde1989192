"""Conversations: what the model is asked, what can be taken back, and the file of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from support.fake_engine import INFO, FakeEngine, failing

from gptcli.chat import Conversation, check_sampling, load, save
from gptcli.chat_templates import EndOfText, Template, Transcript, Turn
from gptcli.engines import open_engine
from gptcli.errors import BadInput, CannotCreate, MissingInput, UsageError, WriteFailed
from gptcli.options import Load, Sampling
from gptcli.protocol import Event, Request

GREEDY = Sampling(greedy=True, max_new_tokens=8)
ROOMY = replace(INFO, context=10_000)


def talk(
    *replies: str, context: int = 10_000, template: Template | None = None, **sampling: object
) -> tuple[Conversation, list[Request]]:
    """A conversation whose model says `replies` in turn, and the requests it gets."""
    asked: list[Request] = []
    engine = FakeEngine(
        info=replace(INFO, context=context),
        asked=asked,
        reply=lambda request: replies[(len(asked) - 1) % len(replies)],
    )
    settings = Sampling(**sampling)  # type: ignore[arg-type]
    return Conversation(engine, template or Transcript(), settings, "Talk."), asked


def say(conversation: Conversation, *messages: str) -> list[str]:
    return ["".join(conversation.reply(message)) for message in messages]


def contents(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.turns]


# Replies


def test_a_reply_has_no_white_space_around_it() -> None:
    conversation, _ = talk(" Hello \n there. \n")
    assert say(conversation, "Hi") == ["Hello \n there."]


def test_pieces_are_the_reply_as_it_is_written() -> None:
    conversation, _ = talk("  abcdef gh   ")
    assert list(conversation.reply("Hi")) == ["ab", "cdef", " gh"]


@pytest.mark.parametrize("template", [Transcript(), EndOfText()])
@pytest.mark.parametrize("reply", [" Hello.", "Hello.", " \n Hello. \n", "", "  "])
def test_a_prompt_goes_on_where_the_last_one_and_its_reply_ended(
    template: Template, reply: str
) -> None:
    conversation, asked = talk(reply, template=template)
    say(conversation, "One", "Two", "Three")
    for before, after in pairwise(asked):
        assert after.prompt.startswith(before.prompt + reply)


def test_stop_strings_are_the_users_and_the_templates() -> None:
    conversation, asked = talk("a", stop=("END", "\nAI:"))
    say(conversation, "Hi")
    assert asked[0].sampling.stop == ("END", "\nAI:", "\nHuman:")


def test_every_request_has_an_id_of_its_own() -> None:
    conversation, asked = talk("a")
    say(conversation, "One", "Two")
    assert len({request.id for request in asked}) == 2


@pytest.mark.parametrize("message", ["", " ", "\n"])
def test_an_empty_message_is_bad_input(message: str) -> None:
    conversation, asked = talk("a")
    with pytest.raises(BadInput):
        say(conversation, message)
    assert asked == []


def test_a_reply_that_fails_leaves_all_as_it_was() -> None:
    conversation, _ = talk("a")
    say(conversation, "One")
    before = conversation.turns
    conversation.engine = failing()
    with pytest.raises(BadInput):
        say(conversation, "Two")
    assert conversation.turns == before


def test_an_engine_that_breaks_leaves_all_as_it_was() -> None:
    class Broken(FakeEngine):
        def run(self, requests: object) -> Iterator[Event]:
            yield next(super().run(requests))  # type: ignore[arg-type]
            raise MemoryError

    conversation = Conversation(Broken(), EndOfText(), Sampling())
    with pytest.raises(MemoryError):
        say(conversation, "Hi")
    assert conversation.turns == ()


def test_a_cancelled_reply_keeps_the_text_so_far() -> None:
    conversation, _ = talk(" a very long reply indeed")
    pieces = conversation.reply("Hi")
    assert next(pieces) == "a v"
    conversation.cancel()
    assert list(pieces) == []
    assert conversation.turns == (Turn("user", "Hi"), Turn("assistant", "a v", " a v"))


def test_a_reply_that_is_not_read_to_its_end_keeps_the_text_so_far() -> None:
    conversation, _ = talk(" a very long reply indeed")
    next(conversation.reply("Hi"))
    assert contents(conversation) == ["Hi", "a v"]


def test_a_reply_cancelled_before_its_first_word_takes_the_message_back() -> None:
    conversation, _ = talk("    late")
    conversation.engine.cancel("reply-1")
    assert say(conversation, "Hi") == [""]
    assert conversation.turns == ()


def test_a_cancelled_reply_does_not_cancel_the_next() -> None:
    conversation, _ = talk("abcdefgh")
    next(conversation.reply("Hi"))
    conversation.cancel()
    assert say(conversation, "Hi") == ["abcdefgh"]


@pytest.mark.parametrize(
    "bad", [{"num_return_sequences": 2}, {"num_beams": 2}, {"logprobs": 1}], ids=str
)
def test_settings_that_make_no_conversation_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        check_sampling(Sampling(**bad))  # type: ignore[arg-type]
    conversation, _ = talk("a")
    with pytest.raises(UsageError):
        conversation.sampling = Sampling(**bad)  # type: ignore[arg-type]


# Taking back


def test_undo_takes_an_exchange_back() -> None:
    conversation, asked = talk("a")
    say(conversation, "One", "Two")
    assert conversation.undo() == "Two"
    say(conversation, "Three")
    assert asked[2].prompt == asked[1].prompt.replace("Two", "Three")


def test_retry_asks_the_same_again() -> None:
    conversation, asked = talk("a", "b")
    say(conversation, "One")
    assert "".join(conversation.retry()) == "b"
    assert asked[1].prompt == asked[0].prompt
    assert contents(conversation) == ["One", "b"]


def test_a_retry_that_fails_keeps_the_last_reply() -> None:
    conversation, _ = talk("a")
    say(conversation, "One")
    conversation.engine = failing()
    with pytest.raises(BadInput):
        list(conversation.retry())
    assert contents(conversation) == ["One", "a"]


def test_a_given_seed_changes_with_each_retry_only() -> None:
    conversation, asked = talk("a", seed=2**63 - 1)
    say(conversation, "One")
    list(conversation.retry())
    list(conversation.retry())
    say(conversation, "Two")
    assert [request.sampling.seed for request in asked] == [2**63 - 1, 0, 1, 2**63 - 1]


def test_without_a_seed_the_engine_draws_one() -> None:
    conversation, asked = talk("a")
    say(conversation, "One")
    list(conversation.retry())
    assert [request.sampling.seed for request in asked] == [None, None]


def test_a_retry_without_chance_says_that_it_is_the_same() -> None:
    conversation, _ = talk("a", temperature=0)
    say(conversation, "One")
    list(conversation.retry())
    assert "the reply is the same" in conversation.take_notices()[0]


@pytest.mark.parametrize("method", ["undo", "retry"])
def test_nothing_can_be_taken_back_at_the_beginning(method: str) -> None:
    conversation, _ = talk("a")
    with pytest.raises(UsageError, match="nothing was said"):
        list(getattr(conversation, method)())


def test_clear_begins_anew_with_the_same_system_text() -> None:
    conversation, asked = talk("a")
    say(conversation, "One")
    conversation.clear()
    say(conversation, "One")
    assert asked[1].prompt == asked[0].prompt


# The context


def test_the_oldest_exchanges_are_left_out_when_the_context_is_full() -> None:
    conversation, asked = talk(" reply", context=60, max_new_tokens=10)
    say(conversation, *(f"message {number}" for number in range(20)))
    prompt = asked[-1].prompt
    assert prompt.startswith("Talk.\n\nHuman: message ")
    assert prompt.endswith("Human: message 19\nAI:")
    assert all(len(request.prompt) / 4 + 10 <= 60 for request in asked)
    assert len(conversation.turns) == 40


def test_undo_brings_back_the_turns_that_gave_way() -> None:
    conversation, asked = talk(" reply", context=60, max_new_tokens=10)
    say(conversation, "One", "Two", "long " * 35)
    assert "One" not in asked[-1].prompt
    conversation.undo()
    say(conversation, "Three")
    assert asked[-1].prompt == asked[1].prompt + " reply\nHuman: Three\nAI:"


def test_that_turns_are_left_out_is_said_once() -> None:
    conversation, _ = talk(" reply", context=60, max_new_tokens=10)
    say(conversation, *(f"message {number}" for number in range(20)))
    assert len(conversation.take_notices()) == 1
    assert conversation.take_notices() == ()


def test_most_prompts_of_a_long_conversation_still_go_on_from_the_last() -> None:
    conversation, asked = talk(" reply", context=200, max_new_tokens=20)
    say(conversation, *(f"message {number}" for number in range(60)))
    kept = [b.prompt.startswith(a.prompt) for a, b in pairwise(asked)]
    assert sum(kept) > 45


def test_a_long_last_message_takes_room_from_the_reply() -> None:
    conversation, asked = talk(" reply", context=60, max_new_tokens=50)
    say(conversation, "Short", "x" * 180)
    assert "Short" not in asked[1].prompt


@pytest.mark.parametrize("limit", [{}, {"max_length": 40}], ids=str)
def test_a_message_longer_than_the_context_is_bad_input(limit: dict[str, int]) -> None:
    conversation, _ = talk("a", context=60, **limit)
    say(conversation, "Short")
    with pytest.raises(BadInput, match="message too long"):
        say(conversation, "x" * 300)
    assert contents(conversation) == ["Short", "a"]
    assert say(conversation, "Short") == ["a"]


# Files


def saved(tmp_path: Path, **changes: object) -> str:
    whole: dict[str, object] = {
        "version": 1,
        "model": "gpt2",
        "template": "transcript",
        "system": None,
        "turns": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
    } | changes
    (tmp_path / "talk.json").write_text(json.dumps(whole))
    return str(tmp_path / "talk.json")


def test_a_conversation_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    conversation, asked = talk(" Hé\u202e\x1b[0m\n 👩‍🚀 \n")
    say(conversation, "One \x07 ü", "Two")
    save(conversation, str(tmp_path / "talk.json"))
    other, asked_there = talk("a")
    other.system = None
    load(other, str(tmp_path / "talk.json"))
    assert other.turns == conversation.turns
    say(conversation, "Three")
    say(other, "Three")
    assert asked_there[-1].prompt == asked[-1].prompt


def test_a_saved_conversation_is_readable(tmp_path: Path) -> None:
    conversation, _ = talk(" Ho")
    say(conversation, "Hi")
    path = save(conversation, str(tmp_path / "talk.json"))
    assert json.loads(path.read_text()) == {
        "version": 1,
        "model": "fake",
        "template": "transcript",
        "system": "Talk.",
        "turns": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho", "written": " Ho"},
        ],
    }


def test_another_template_takes_the_content_alone(tmp_path: Path) -> None:
    conversation, _ = talk(" Ho")
    say(conversation, "Hi")
    save(conversation, str(tmp_path / "talk.json"))
    other, _ = talk("a", template=EndOfText())
    load(other, str(tmp_path / "talk.json"))
    assert other.turns == (Turn("user", "Hi"), Turn("assistant", "Ho"))


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    conversation, _ = talk("a")
    (tmp_path / "talk.json").write_text("mine")
    with pytest.raises(CannotCreate, match="exists already"):
        save(conversation, str(tmp_path / "talk.json"))
    assert (tmp_path / "talk.json").read_text() == "mine"


def test_an_own_file_is_overwritten_whole(tmp_path: Path) -> None:
    conversation, _ = talk("a")
    path = save(conversation, str(tmp_path / "talk.json"))
    say(conversation, "Hi")
    save(conversation, str(path), {path})
    assert len(json.loads((tmp_path / "talk.json").read_text())["turns"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize(
    "name", ["", "no/such/folder/talk.json", ".", "a\0b", "x" * 5000, "~nobody-here/x"]
)
def test_a_file_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotCreate):
        save(talk("a")[0], name, {tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "talk.json").write_text("old")
    with pytest.raises(WriteFailed):
        save(talk("a")[0], str(tmp_path / "talk.json"), {tmp_path / "talk.json"})
    assert (tmp_path / "talk.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize("name", ["", "missing.json", "a\0b", "x" * 5000, "~nobody-here/x"])
def test_a_file_that_is_not_there_is_missing_input(name: str) -> None:
    with pytest.raises(MissingInput):
        load(talk("a")[0], name)


USER, AI = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": 2}, "version is 2"),
        ({"version": True}, "version is True"),
        ({"strange": 1}, "does not know 'strange'"),
        ({"model": 5}, "template and model are texts"),
        ({"system": 5}, "system is neither"),
        ({"turns": {}}, "turns is not a list"),
        ({"turns": [USER]}, "the last turn is the user's"),
        ({"turns": [AI, USER]}, "turn 1 is not the user's"),
        ({"turns": [USER, USER]}, "turn 2 is not the assistant's"),
        ({"turns": [USER, {**AI, "name": "x"}]}, "turn 2 has other keys"),
        ({"turns": [{**USER, "written": "x"}, AI]}, "turn 1 has other keys"),
        ({"turns": [{"role": "user"}, AI]}, "turn 1 has other keys"),
        ({"turns": [USER, {**AI, "content": None}]}, "turn 2 holds what is not a text"),
        ({"turns": [USER, {**AI, "written": 1}]}, "turn 2 holds what is not a text"),
        ({"turns": [USER, "b"]}, "turn 2 has other keys"),
        ({"turns": [USER, {**AI, "content": "\ud800"}]}, "lone surrogate"),
        ({"system": "\ud800"}, "lone surrogate"),
    ],
)
def test_a_broken_conversation_is_bad_input(
    tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    conversation, _ = talk("a")
    say(conversation, "Hi")
    with pytest.raises(BadInput, match=expected):
        load(conversation, saved(tmp_path, **changes))
    assert contents(conversation) == ["Hi", "a"]


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"version": NaN}', b" " * (5 << 20)],
    ids=range(8),
)
def test_what_is_no_json_object_is_bad_input(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "talk.json").write_bytes(data)
    with pytest.raises(BadInput):
        load(talk("a")[0], str(tmp_path / "talk.json"))


def test_a_pipe_in_place_of_a_file_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "talk.json")
    with pytest.raises(BadInput, match="not a regular file"):
        load(talk("a")[0], str(tmp_path / "talk.json"))


# A real model


def test_a_real_model_computes_only_what_is_new() -> None:
    engine = open_engine(Load(model="tiny-tales"))
    conversation = Conversation(engine, Transcript(), GREEDY)
    for message in ("Once there was a fox", "And then?"):
        assert "".join(conversation.reply(message))
    assert conversation.completion is not None
    usage = conversation.completion.usage
    assert usage.cached_tokens > usage.prompt_tokens / 2


# What can be brought back


def test_what_was_cleared_can_be_brought_back() -> None:
    conversation, _ = talk("a", "b")
    say(conversation, "One")
    before = conversation.turns
    conversation.clear()
    assert conversation.turns == ()
    assert conversation.bring_back()
    assert conversation.turns == before
    assert not conversation.bring_back()


def test_what_was_said_since_is_undone_before_what_was_cleared() -> None:
    conversation, _ = talk("a", "b")
    say(conversation, "One")
    conversation.clear()
    say(conversation, "Two")
    assert not conversation.bring_back()
    assert conversation.undo() == "Two"
    assert conversation.bring_back()
    assert contents(conversation) == ["One", "a"]


def test_every_reply_to_a_message_stays_an_alternative() -> None:
    conversation, _ = talk("a", "b", "c", "d")
    say(conversation, "One")
    list(conversation.retry())
    list(conversation.retry())
    assert [turn.content for turn in conversation.alternatives] == ["a", "b", "c"]
    conversation.choose(2)
    assert contents(conversation) == ["One", "b"]
    conversation.revise("B")
    assert contents(conversation) == ["One", "B"]
    assert [turn.content for turn in conversation.alternatives] == ["a", "b", "c", "B"]
    for number in (0, 5, -1):
        with pytest.raises(UsageError):
            conversation.choose(number)
    say(conversation, "Two")
    assert [turn.content for turn in conversation.alternatives] == ["d"]


def test_the_chosen_reply_is_what_the_model_reads() -> None:
    conversation, asked = talk(" a", " b", " c")
    say(conversation, "One")
    list(conversation.retry())
    conversation.choose(1)
    say(conversation, "Two")
    assert "Human: One\nAI: a\nHuman: Two" in asked[-1].prompt  # type: ignore[union-attr]


def test_a_message_can_be_rephrased_and_the_first_brought_back() -> None:
    conversation, _ = talk("a", "b", "c")
    say(conversation, "One", "Two")
    list(conversation.rephrase("Too"))
    assert contents(conversation) == ["One", "a", "Too", "c"]
    assert conversation.bring_back()
    assert contents(conversation) == ["One", "a", "Two", "b"]


# The file as text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("talk.txt", "Talk.\n\nHuman: One\n\nAI: a\n"),
        ("talk.md", "Talk.\n\n**Human:** One\n\n**AI:** a\n"),
    ],
)
def test_a_text_is_for_readers(tmp_path: Path, name: str, text: str) -> None:
    conversation, _ = talk("a")
    say(conversation, "One")
    path = save(conversation, str(tmp_path / name))
    assert path.read_text() == text
    with pytest.raises(BadInput, match=r"text for readers\. Save it as \.json"):
        load(conversation, str(path))


@pytest.mark.parametrize("name", ["talk.csv", "talk.html", "talk.docx"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    conversation, _ = talk("a")
    with pytest.raises(UsageError, match=r"\.txt, \.md or \.json"):
        save(conversation, str(tmp_path / name))
