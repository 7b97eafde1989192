"""What the matcher finds, what it leaves alone, and that it is the same however a text comes."""

# ruff: noqa: RUF001 - look-alikes are what this is about

from __future__ import annotations

import random
import time

import pytest
from support.spellings import WORDS, evasions

from gptcli.errors import BadInput
from gptcli.moderation.matcher import Matcher, outermost
from gptcli.moderation.phrases import EXTRA, PhraseTree, phrase
from gptcli.moderation.scanner import PhraseMatch, Scanner


def tree(*texts: str) -> PhraseTree:
    return PhraseTree.of(
        phrase(text.lstrip("="), "own", number, exact=text.startswith("="))
        for number, text in enumerate(texts, 1)
    )


def found(phrases: PhraseTree, text: str, before: str = "") -> list[str]:
    scanner = Scanner(phrases, before)
    scanner.feed(text)
    scanner.finish()
    return [text[max(one.start, 0) : one.end] for one in outermost(scanner.found)]


OWN = tree(*("bad", "good", "foo bar", "88", "don't", "傻逼", "が", "=año", "strasse", "office"))


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("a bad one", ["bad"]),
        ("BAD!", ["BAD"]),
        ("b.a.d", ["b.a.d"]),
        ("b a d", ["b a d"]),
        ("x-b-a-d-y", ["b-a-d"]),
        ("baaaad", ["baaaad"]),
        ("b4d b@d ＢＡＤ bаd", ["b4d", "b@d", "ＢＡＤ", "bаd"]),
        ("b\u0301a\u200bd\u0301.", ["b\u0301a\u200bd\u0301"]),
        ("foo \n bar, foo-bar", ["foo \n bar", "foo-bar"]),
        ("bad's 'bad' bad_bad", ["bad", "bad", "bad", "bad"]),
        ("你傻逼啊 傻 逼", ["傻逼", "傻 逼"]),
        ("か\u3099 が ｶﾞ", ["か\u3099", "が"]),
        ("88", ["88"]),
        ("Don’t", ["Don’t"]),
        ("Straße STRASSE", ["Straße", "STRASSE"]),
        ("oﬃce", ["oﬃce"]),
        ("año AN\u0303O", ["año", "AN\u0303O"]),
        ("gooood", ["gooood"]),
    ],
)
def test_it_finds(text: str, matches: list[str]) -> None:
    assert found(OWN, text) == matches


@pytest.mark.parametrize(
    "text",
    [
        *("badly", "forbad", "abada", "ba", "ba d", "b ad", "s ba's"),
        *("god", "foobar", "foo, bar", "foo. Bar", "8 8", "bb", "455", "dont", "ano", "か", "b!ad"),
        *("傻", "İbad", "ßbad", "badé", "b\nad"),
    ],
)
def test_it_leaves_alone(text: str) -> None:
    assert found(OWN, text) == []


def test_a_word_inside_another_is_none() -> None:
    scunthorpe = tree("cunt", "shit", "ass", "hell", "spic", "tit", "cum")
    text = "Scunthorpe, Shitake, class, we'll shell; Tom's hit John's pic. Don't it come? document"
    assert found(scunthorpe, text) == []


@pytest.mark.parametrize("text", ["İİİ bad ß", "ﬃ bad", "ｶﾞ bad", "\U0001f1e6 bad", "e\u0301 bad"])
def test_places_are_those_of_the_text_as_it_was(text: str) -> None:
    [one] = Matcher(OWN).find(text)
    assert text[one.start : one.end] == "bad"


def test_it_catches_declared_spellings_and_misses_declared_ones() -> None:
    words, caught = tree(*WORDS), 0
    cases = list(evasions())
    for name, word, spelled, expected in cases:
        matches = found(words, f"well, {spelled} it is")
        assert (matches == [spelled]) == expected, (name, word, spelled, matches)
        caught += bool(matches)
    assert (caught, len(cases)) == (180, 200)


def places(matches: list[PhraseMatch]) -> list[tuple[object, ...]]:
    return [(one.start, one.end, one.phrase) for one in outermost(matches)]


PIECES = (
    *("bad", "ba", "b", "a", "d", "B", "A", "D", "good", "oo", "foo", "bar", "kill", "bill", "x"),
    *("the", "big", "ng", "don", "t", "8", "1", "l", "i", "ñ", "ß", "İ", "k1!l"),
    *(" ", "  ", "\n", ".", "-", " - ", ",", "!", "$", "@", "|", "+", "'", "\u0301", "\u200b"),
)


@pytest.mark.parametrize("more", [(), ("傻", "逼", "か", "\u3099", "が")], ids=["Latin", "Han"])
def test_a_whole_text_a_stream_and_its_pieces_have_the_same_matches(more: tuple[str, ...]) -> None:
    own = ["bad", "foo bar", "don't", "=año", "good", "88", "kill bill", "the big bang"]
    phrases = tree(*own, *(("傻逼", "が") if more else ()))
    chance, matcher = random.Random(5), Matcher(phrases)
    for _ in range(400):
        text = "".join(chance.choice(PIECES + more) for _ in range(chance.randrange(120)))
        whole, letters = Scanner(phrases), Scanner(phrases)
        whole.feed(text)
        for letter in text:
            letters.feed(letter)
        whole.finish()
        letters.finish()
        assert letters.found == whole.found
        assert places(matcher.find(text)) == places(whole.found), text


def test_no_more_is_held_back_than_the_longest_phrase_and_its_separators() -> None:
    phrases = tree("bad", "foo bar", "abcdefghij")
    assert phrases.held == 10 + EXTRA
    chance = random.Random(3)
    for _ in range(100):
        scanner = Scanner(phrases)
        letters = chance.choice(("ab.", "b a", "fo \n", "a", "a\u0301", "abcdefghij...", "1l |!"))
        for place in range(1, 400):
            scanner.feed(chance.choice(letters))
            assert place - scanner.clear <= phrases.held


def test_hostile_texts_take_linear_time() -> None:
    phrases = tree("a" * 30, "aaa aaa aaa aaa", *("a" * size + "b" for size in range(2, 12)))
    times = []
    for size in (150, 600):
        begun = time.process_time()
        for text in ("a" * size, "a " * (size // 2), "4@" * (size // 2), "a.-" * (size // 3)):
            Matcher(phrases).find(text)
        times.append(time.process_time() - begun)
    assert times[1] < 12 * times[0] + 0.05


@pytest.mark.parametrize("text", ["a", "!!", "", "x" * 300])
def test_a_phrase_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="filter own: line 7: "):
        phrase(text, "own", 7)


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("k\u00f6pek", "k\u00f6pek k\u00f6pe\u011fin k\u00f6pekler", 1),  # Turkish
        ("koira", "koira koiran koirat", 1),  # Finnish
        ("\uac15\uc544\uc9c0", "\uac15\uc544\uc9c0\uac00 \uac15\uc544\uc9c0", 1),  # Korean
    ],
)
def test_a_word_with_an_ending_is_another_word(word: str, text: str, found: int) -> None:
    tree = PhraseTree.of([phrase(word, "own", 1)])
    assert len(Matcher(tree).find(text)) == found
