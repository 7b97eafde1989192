"""The session of a command: what it says, and how it opens an engine; no terminal is needed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from support.fake_engine import INFO, FakeEngine

from gptcli.cli.output import render
from gptcli.cli.session import Session
from gptcli.errors import BadInput, UsageError
from gptcli.options import Load, Talk


@dataclass
class Opening:
    """Stands for `engines.open_engine`; keeps what it was asked for."""

    engine: FakeEngine
    asked: list[tuple[Load, int, bool]] = field(default_factory=list)
    progress: object = None

    def __call__(
        self, load: Load, slots: int, beams: bool, progress: object, text: bool
    ) -> FakeEngine:
        self.asked.append((load, slots, beams))
        self.progress = progress
        return self.engine


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Opening:
    found = Opening(FakeEngine(info=replace(INFO, notices=("it is small",))))
    monkeypatch.setattr("gptcli.engines.open_engine", found)
    return found


@pytest.fixture
def spinners(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages of the spinners that were shown."""
    messages: list[str] = []

    @contextmanager
    def spinner(message: str) -> Iterator[object]:
        messages.append(message)
        yield lambda: None

    monkeypatch.setattr(render, "spinner", spinner)
    return messages


def session(talk: Talk | None = None, **streams: object) -> tuple[Session, list[str]]:
    """A session, and what it has said."""
    said: list[str] = []
    return Session(talk or Talk(), say=said.append, **streams), said  # type: ignore[arg-type]


# What is said


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (Talk(), ["gptcli: note: a", "gptcli: note: b"]),
        (Talk(verbose=True), ["gptcli: note: a", "gptcli: note: b", "gptcli: note: c"]),
        (Talk(quiet=True), []),
        (Talk(quiet=True, verbose=True), []),
    ],
)
def test_notes_depend_on_quiet_and_details_on_verbose(talk: Talk, expected: list[str]) -> None:
    one, said = session(talk)
    one.note("a", "b")
    one.detail("c")
    assert said == expected


def test_an_error_is_said_also_when_quiet() -> None:
    one, said = session(Talk(quiet=True))
    error = BadInput("line 2", "it is too long", "Cut it.")
    one.error(error)
    assert said == [f"gptcli: error: {error}"]


# Spinners


@pytest.mark.parametrize(
    ("terminal", "quiet", "shown", "seen"),
    [
        (True, False, True, True),
        (False, False, True, False),
        (True, True, True, False),
        (True, False, False, False),
    ],
)
def test_a_spinner_is_for_a_terminal_that_may_be_told(
    spinners: list[str], terminal: bool, quiet: bool, shown: bool, seen: bool
) -> None:
    one, _ = session(Talk(quiet=quiet), stderr_is_terminal=terminal)
    with one.waiting("looking around", shown) as stop:
        assert (stop is not None) == seen
    assert spinners == ["looking around"] * seen


# The engine


def test_an_engine_is_opened_under_a_spinner_and_its_notices_are_said(
    opening: Opening, spinners: list[str]
) -> None:
    one, said = session(stderr_is_terminal=True)
    load = Load(model="gpt2")
    assert one.open_engine(load, 3, True) is opening.engine
    assert opening.asked == [(load, 3, True)]
    assert spinners == ["loading gpt2"]
    assert opening.progress is not None
    assert said == ["gptcli: note: it is small"]


def test_without_a_terminal_an_engine_is_opened_in_silence(
    opening: Opening, spinners: list[str]
) -> None:
    one, said = session()
    one.open_engine(Load(), notices=False)
    assert (spinners, said, opening.progress) == ([], [], None)
    assert opening.asked == [(Load(), 1, False)]


@pytest.mark.parametrize(
    ("dtype", "exact", "expected"),
    [("auto", True, "float32"), ("bfloat16", True, "bfloat16"), ("auto", False, "auto")],
)
def test_exact_is_float32_unless_another_data_type_is_named(
    opening: Opening, dtype: str, exact: bool, expected: str
) -> None:
    one, _ = session()
    one.open_engine(Load(dtype=dtype), exact=exact)  # type: ignore[arg-type]
    assert opening.asked[0][0].dtype == expected


def test_what_writes_answers_down_takes_the_engines_place_after_its_notices(
    opening: Opening,
) -> None:
    one, said = session()
    other = FakeEngine()

    def watch(engine: object, slots: int, beams: bool) -> FakeEngine:
        assert (engine, slots, beams) == (opening.engine, 2, False)
        assert said == ["gptcli: note: it is small"]
        return other

    assert one.open_engine(Load(), 2, watch=watch) is other


# Streams


def test_a_person_is_there_who_types_and_reads_stderr() -> None:
    assert session(stdin_is_terminal=True, stderr_is_terminal=True)[0].interactive
    assert not session(stdin_is_terminal=True)[0].interactive
    assert not session(stderr_is_terminal=True)[0].interactive


def test_nobody_is_asked_who_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"gptcli cache clear: it asks first.*Add -y"):
        session()[0].agreed("Remove it?", "gptcli cache clear")


def test_the_answer_to_a_question_is_what_a_person_says(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = session(stdin_is_terminal=True)
    for said, meant in (("y\n", True), ("n\n", False)):
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        assert one.agreed("Remove it?", "gptcli cache clear") is meant


@pytest.mark.parametrize("stdin", [None, io.StringIO("text")])
def test_a_session_can_be_had_without_standard_input(
    monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    one = Session.of(Talk())
    assert (one.stdin, one.stdin_is_terminal) == (None, False)
