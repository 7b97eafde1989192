"""Sentences, paragraphs and passages: where a text is split, and that nothing is lost."""

# ruff: noqa: RUF001 - quotes and marks of other scripts are what this is about

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.errors import BadInput
from gptcli.system.text.sentences import borders
from gptcli.tasks.text.passages import CharSpan, best_window, paragraphs, passages, sentences

WILD = st.text(alphabet=st.sampled_from("aB1.!?…,。।؟۔नी「」\"')» \n\t\r-") | st.characters())


def pieces(text: str, spans: Sequence[CharSpan]) -> list[str]:
    return [text[start:end] for start, end in spans]


def split(text: str) -> list[str]:
    return pieces(text, sentences(text))


def assert_nothing_lost(text: str, spans: Sequence[CharSpan]) -> None:
    """Spans in order, none empty, and only whitespace outside of them."""
    edges = [0, *(place for span in spans for place in span), len(text)]
    assert edges == sorted(edges)
    assert all(start < end for start, end in spans)
    outside = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    assert not "".join(outside).strip()


def at_most(length: int) -> Callable[[str], bool]:
    return lambda piece: len(piece) <= length


@pytest.mark.parametrize(
    "expected",
    [
        ["One is here.", "Two is there!", "Three?", "Yes…", "No?!", "So."],
        ["He said “Go.”", "(She went.)", '"Why?"', "'No.'", "Good."],
        ["Mr. Smith met Mrs. Jones and Dr. No on St. Helena.", "They ate."],
        ["Cats, dogs, etc. were there, e.g. Rex, i.e. King vs. Queen.", "It ended."],
        ["Birds, etc.", "The end."],
        ["It is in the U.S. Army and the U.S.", "The rest is not."],
        ["J. R. R. Tolkien wrote it.", "We read it."],
        ["It was I.", "He saw me.", "Plan B.", "We go."],
        ["Pi is 3.14 and No. 5 is alive.", "He said no.", "Never."],
        ["He was 34.", "Nobody knew."],
        ["1. Take this.", "2. Take that."],
        ["See p. 12 and Fig. 3 there.", "Then stop."],
        ["“Really?” he said.", "Wait… what is it... now?"],
        ["Well . . . he thinks.", "Yes."],
        ["See www.example.com or a.b.c here.", "Then go."],
        ["Am 3. Oktober begann der 2. Weltkrieg nicht.", "Das war z. B. im 19. Jahrhundert so."],
        ["„Nein.“", "Er ging.", "»Ja.«", "Sie kam bzw. Anna kam."],
        ["« Bonjour !", "Ça va ? » dit-il.", "M. Dupont et Mme Martin rient."],
        ["¿Qué pasa?", "¡Nada!", "El Sr. Pérez y la Sra. Gil salen."],
        ["Il sig. Rossi parla.", "Ha un'auto ecc. e basta."],
        ["O Dr. Silva saiu.", "Não voltou."],
        ["Dhr. de Vries kwam.", "Hij bleef bijv. thuis."],
        ["She left.", "– He stayed.", "*Both* slept."],
        ["من أنت؟", "لا أعرف!", "قال د. أحمد: «نعم؟»", "ثم ذهب."],
        ["آپ کیسے ہیں؟", "میں ٹھیک ہوں۔", "ایم۔اے کا طالب علم ہے۔", "شکریہ!"],
        ["राम घर गया।", "क्या वह सोया?", "डॉ. राम ने कहा “हाँ।”", "ए. पी. जे. कलाम आए॥", "वह गया"],
        ["আমি যাই।", "তুমি এসো।"],
        ["Ես գնացի։", "Նա մնաց։"],
        ["ሰላም ነው።", "ደህና?", "አዎ።"],
        ["Πού πας\u037e", "Σπίτι.", "Really?!", "Yes‽", "No"],
    ],
    ids=lambda expected: expected[0],
)
def test_sentences_end_where_a_reader_ends_them(expected: list[str]) -> None:
    assert split(" ".join(expected)) == expected


def test_cjk_sentences_need_no_space() -> None:
    assert split("今日は。明日！「行く。」と言った。终于？") == [
        "今日は。",
        "明日！",
        "「行く。」と言った。",
        "终于？",
    ]


def test_a_danda_needs_no_space_before_a_letter() -> None:
    assert split("राम गया।वह सोया।। २ है।२") == ["राम गया।", "वह सोया।।", "२ है।२"]


def test_a_blank_line_always_ends_a_sentence() -> None:
    assert split("no full stop\n \nnext") == ["no full stop", "next"]


def test_a_line_break_alone_does_not_end_a_sentence() -> None:
    assert split("one\ntwo. Three\r\nfour") == ["one\ntwo.", "Three\r\nfour"]


def test_with_lines_every_line_break_ends_a_sentence() -> None:
    text = "one\ntwo. Three\r\nfour"
    assert pieces(text, sentences(text, lines=True)) == ["one", "two.", "Three", "four"]


@pytest.mark.parametrize("text", ["", " ", "\n\n \t"])
def test_a_text_of_whitespace_has_no_sentences(text: str) -> None:
    assert sentences(text) == paragraphs(text) == passages(text, at_most(1)) == []


@given(WILD, st.booleans())
def test_sentences_lose_nothing(text: str, lines: bool) -> None:
    assert_nothing_lost(text, sentences(text, lines=lines))


@given(WILD)
def test_paragraphs_lose_nothing(text: str) -> None:
    assert_nothing_lost(text, paragraphs(text))


@given(WILD, WILD)
def test_a_certain_border_stays_whatever_follows(text: str, more: str) -> None:
    certain = [border for border in borders(text, finished=False) if border.certain]
    ends = [border.end for border in borders(text + more)][: len(certain)]
    assert ends == [border.end for border in certain]


def test_paragraphs_are_parted_by_blank_lines() -> None:
    text = "\n a\nb\n\n\nc.\r\n\r\nd \n"
    assert pieces(text, paragraphs(text)) == ["a\nb", "c.", "d"]


def test_a_text_that_fits_is_one_passage() -> None:
    text = " One. Two.\n\nThree. "
    assert pieces(text, passages(text, at_most(100))) == ["One. Two.\n\nThree."]


def test_passages_hold_as_many_sentences_as_fit() -> None:
    text = "One up. Two up. Three up. Four up."
    assert pieces(text, passages(text, at_most(16))) == ["One up. Two up.", "Three up.", "Four up."]


def test_a_passage_ends_before_a_paragraph_it_would_tear() -> None:
    text = "Aaaa. Bbbb. Cccc.\n\nDddd. Eeee."
    assert pieces(text, passages(text, at_most(25))) == ["Aaaa. Bbbb. Cccc.", "Dddd. Eeee."]


def test_a_paragraph_is_torn_when_the_passage_would_be_less_than_half_full() -> None:
    text = "Aaaa.\n\nBbbb. Cccc. Dddd. Eeee."
    assert pieces(text, passages(text, at_most(18))) == ["Aaaa.\n\nBbbb. Cccc.", "Dddd. Eeee."]


def test_a_sentence_that_does_not_fit_is_torn_between_words() -> None:
    text = "One two three four five. Six."
    assert pieces(text, passages(text, at_most(10))) == ["One two", "three four", "five. Six."]


def test_a_word_that_does_not_fit_is_torn_between_characters() -> None:
    assert pieces("abcdefgh i", passages("abcdefgh i", at_most(3))) == ["abc", "def", "gh", "i"]


def test_a_text_of_which_nothing_fits_is_refused() -> None:
    with pytest.raises(BadInput, match="no room"):
        passages("One. Two.", lambda piece: False)


@given(WILD, st.integers(1, 30))
def test_passages_lose_nothing_and_fit(text: str, length: int) -> None:
    spans = passages(text, at_most(length))
    assert_nothing_lost(text, spans)
    assert all(end - start <= length for start, end in spans)


@given(WILD, st.integers(1, 30))
def test_no_two_passages_in_a_row_would_fit_together_unless_a_paragraph_parts_them(
    text: str, length: int
) -> None:
    for (start, end), (after, last) in pairwise(passages(text, at_most(length))):
        first = sentences(text[after:last])[0]
        assert after + first[1] - start > length or "\n" in text[end:after]


def test_asking_what_fits_is_rare() -> None:
    text = "A b c d. " * 5000
    asked = []

    def fits(piece: str) -> bool:
        asked.append(piece)
        return len(piece) <= 900

    spans = passages(text, fits)
    assert len(spans) == 50
    assert len(asked) <= 4 * len(spans)


FACTS = (
    "The river is long. It floods in spring. The town lies on a hill. Its market is old."
    " The castle burned in 1703. Nobody rebuilt it. The school has a bell. It rings at noon."
)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("When did the castle burn?", "The castle burned in 1703."),
        ("Where is the bell of the SCHOOL?", "The school has a bell."),
        ("Is the market old?", "Its market is old."),
    ],
)
def test_the_best_window_holds_what_is_asked_for(question: str, sentence: str) -> None:
    start, end = best_window(FACTS, question, at_most(60))
    assert sentence in FACTS[start:end]
    assert end - start <= 60


def test_a_rare_word_counts_more_than_common_ones() -> None:
    text = "The big red dog ran. The big red fox ran. The small owl slept. The big red cow ran."
    start, end = best_window(text, "big red owl", at_most(22))
    assert text[start:end] == "The small owl slept."


def test_what_is_near_the_end_of_one_passage_is_looked_for_in_the_middle_of_another() -> None:
    text = "Aaa bbb. Ccc ddd. Anna came. Anna sang. Eee fff. Ggg hhh."
    start, end = best_window(text, "came sang", at_most(30))
    assert "Anna came. Anna sang." in text[start:end]


def test_of_equally_good_windows_the_first_is_taken() -> None:
    assert best_window("Dog one. Dog two. Dog six.", "dog", at_most(9)) == (0, 8)


def test_without_words_in_common_the_first_window_is_taken() -> None:
    assert best_window("Aaa. Bbb. Ccc.", "zzz", at_most(4)) == (0, 4)


def test_a_text_of_whitespace_has_an_empty_window() -> None:
    assert best_window("  \n", "why", at_most(4)) == (0, 0)


@given(WILD, WILD, st.integers(1, 20))
def test_the_best_window_fits(text: str, question: str, length: int) -> None:
    start, end = best_window(text, question, at_most(length))
    assert 0 <= start <= end <= len(text)
    assert end - start <= length
