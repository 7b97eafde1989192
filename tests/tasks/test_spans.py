"""Names in a text, from the line that a model wrote about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.tasks.text.spans import Entity, entities, shifted

TYPES = ("person", "place")
TEXT = "Anna Karenina left Rome. In Paris, Texas, Anna met Dr. J. R. (Jim) Smith."


def found(answer: str, text: str = TEXT) -> list[tuple[str, str]]:
    return [(entity.text, entity.type) for entity in entities(answer, text, TYPES)]


def test_names_are_given_with_type_and_place() -> None:
    assert entities("Anna Karenina (person), Rome (place)", TEXT, TYPES) == (
        Entity("Anna Karenina", "person", 0, 13),
        Entity("Rome", "place", 19, 23),
    )


@pytest.mark.parametrize(
    "answer",
    [
        "Anna Karenina(person);Rome(place)",
        "  Anna Karenina ( person ) ,  Rome (PLACE). ",
        "Anna Karenina (person). Rome (place).",
        "Rome (place), Anna Karenina (person)",
        '"Anna Karenina" (person), Rome (place), Par',
        "Anna Karenina (person), Rome (place), Paris (pla",
        "Anna Karenina (person), Rome (place), Texas (state)",
        "Texas (state), Anna Karenina (person), Rome (place)",
        "Anna Karenina (person), Texas (state); Rome (place)",
        "Anna Karenina (person), Rome (place), Oslo (place)",
        "Anna Karenina (person), Texas, Rome (place)",
        "Anna  Karenina (person), ROME (place)",
    ],
)
def test_a_line_is_read_tolerantly(answer: str) -> None:
    assert found(answer) == [("Anna Karenina", "person"), ("Rome", "place")]


@pytest.mark.parametrize(
    "answer", ["", " ", "none", "None.", "(person)", ", (place)", "Rome", ")("]
)
def test_a_line_without_names_gives_nothing(answer: str) -> None:
    assert entities(answer, TEXT, TYPES) == ()


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Paris, Texas (place)", "Paris, Texas"),
        ("J. R. (Jim) Smith (person)", "J. R. (Jim) Smith"),
        ("Dr. J. R. (Jim) Smith (person)", "Dr. J. R. (Jim) Smith"),
    ],
)
def test_a_name_can_hold_commas_and_parentheses(answer: str, name: str) -> None:
    assert [text for text, _ in found(answer)] == [name]


def test_the_final_dot_of_a_name_is_kept() -> None:
    assert found("Smith Jr. (person)", "It is Smith Jr. himself.") == [("Smith Jr.", "person")]


@pytest.mark.parametrize(
    ("name", "text"),
    [("Rom", "Rome"), ("ome", "Rome"), ("Zoe", "Zoe\u0308"), ("Ann", "Anna and Joann")],
)
def test_a_name_must_stand_between_word_borders(name: str, text: str) -> None:
    assert found(f"{name} (person)", text) == []


def test_the_same_case_is_preferred() -> None:
    assert entities("Rose (person)", "A rose for Rose", TYPES)[0].start == 11


def test_the_spelling_is_that_of_the_text() -> None:
    assert found("anna KARENINA (Person)", "Anna\nKarenina") == [("Anna\nKarenina", "person")]


def test_the_next_mention_takes_the_next_place() -> None:
    text = "Rome, Rome and Rome"
    starts = [entity.start for entity in entities("Rome (place), Rome (place)", text, TYPES)]
    assert starts == [0, 6]


def test_a_mention_without_a_place_left_is_dropped() -> None:
    assert found("Rome (place), Rome (place)", "Only Rome.") == [("Rome", "place")]


def test_a_short_name_is_not_found_inside_a_longer_one() -> None:
    starts = [
        entity.start for entity in entities("Anna (person), Anna Karenina (person)", TEXT, TYPES)
    ]
    assert starts == [0, TEXT.index("Anna met")]


def test_offsets_count_code_points() -> None:
    assert entities("Zoë (person)", "🙂🙂 Zoë", TYPES) == (Entity("Zoë", "person", 3, 6),)


def test_the_type_is_spelt_as_asked_for() -> None:
    assert entities("Rome (place)", "Rome", ["PLACE "])[0].type == "PLACE "


def test_entities_of_a_part_are_moved_to_their_place_in_the_whole() -> None:
    part = entities("Rome (place)", TEXT[19:], TYPES)
    assert shifted(part, 19) == (Entity("Rome", "place", 19, 23),)


def test_an_entity_is_shown_with_these_keys() -> None:
    shown = {"text": "Rome", "type": "place", "start": 2, "end": 6}
    assert Entity("Rome", "place", 2, 6).to_dict() == shown


@given(st.text(alphabet='ab ,;.()"personlac\n'), st.text(alphabet="ab ,.()\n"))
def test_whatever_is_written_entities_are_parts_of_the_text(answer: str, text: str) -> None:
    given_back = entities(answer, text, TYPES)
    assert all(text[entity.start : entity.end] == entity.text != "" for entity in given_back)
    starts = [entity.start for entity in given_back]
    assert starts == sorted(set(starts))
