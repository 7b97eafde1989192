"""Made-up words, ways to spell them so that a list may miss them, and streams of their letters."""

# ruff: noqa: RUF001 - look-alikes are what this is about

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

WORDS = (
    *("blorptwig", "snarfel", "quibzot", "drembolk", "vastrine"),
    *("plonkadu", "grimbeso", "trozelt", "wibnasc", "folkigra"),
)


def _mapped(source: str, target: str) -> Callable[[str], str]:
    return lambda word: word.translate(str.maketrans(source, target))


def _every(between: str) -> Callable[[str], str]:
    return lambda word: between.join(word)


def _shifted(first: str, base: str = "a") -> Callable[[str], str]:
    return lambda word: "".join(chr(ord(first) + ord(one) - ord(base)) for one in word)


CAUGHT: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "every other letter is a capital": lambda word: "".join(
        one.upper() if place % 2 else one for place, one in enumerate(word)
    ),
    "full width": _shifted("ａ"),
    "mathematical": _shifted("\U0001d41a"),
    "in circles": _shifted("ⓐ"),
    "flags": _shifted("\U0001f1e6"),
    "Cyrillic": _mapped("aeocpxykmtb", "аеосрхукмтв"),
    "Greek": _mapped("aeoiktp", "αεοικτρ"),
    "digits": _mapped("oieast", "013457"),
    "signs": _mapped("as", "@$"),
    "marks over letters": _every("\u0301"),
    "without width": _every("\u200b"),
    "soft hyphens": _every("\u00ad"),
    "dots": _every("."),
    "hyphens": _every("-"),
    "spaces": _every(" "),
    "dots and spaces": _every(". "),
    "a letter again and again": lambda word: word[:2] + word[2] * 7 + word[3:],
}
"""Ways to spell that are found, each with its name."""

MISSED: dict[str, Callable[[str], str]] = {
    "a star for a letter": lambda word: word[:2] + "*" + word[3:],
    "backwards": lambda word: word[::-1],
}
"""Ways to spell that are not."""


def evasions() -> Iterator[tuple[str, str, str, bool]]:
    """A way, a word, how it is spelled, and whether that is found: 200 of them."""
    for ways, found in ((CAUGHT, True), (MISSED, False)):
        for name, spell in ways.items():
            for word in WORDS:
                yield name, word, spell(word), found


def random_phrase(chance: random.Random) -> str:
    """One to three made-up words of one to six letters, of more than one script."""
    letters = chance.choice(("bdfgklmnprst", "bdfgklmnprst", "бвгджзлп", "βγδζθλ", "傻逼笨蛋猪"))
    vowels = {"b": "aeiou", "б": "аеиоу", "β": "αειοω", "傻": "的了人不"}[letters[0]]
    words = [
        "".join(chance.choice(letters) + chance.choice(vowels) for _ in range(chance.randint(1, 3)))
        for _ in range(chance.randint(1, 3))
    ]
    return " ".join(words)


def disguised(phrase: str, chance: random.Random) -> str:
    """A phrase in a spelling that is found."""
    way = chance.randrange(5)
    if way == 1:
        return phrase.upper()
    if way == 2:
        return "".join(one + "\u200b" * chance.randint(0, 2) for one in phrase)
    if way == 3:
        return phrase.replace(" ", chance.choice(("  ", "\n", " - ", "\u00a0")))
    if way == 4:
        return "".join(one + (one * 3 if one.isalpha() else "") for one in phrase)
    return phrase
