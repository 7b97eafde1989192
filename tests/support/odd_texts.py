"""Texts that tokenizers disagree about, the same ones each time.

Controls, Chinese and Japanese characters, combining marks, emoji, long runs, spaces of all kinds,
the texts of special tokens, casing, and Unicode at random, without surrogates.
"""

# ruff: noqa: RUF001 - characters that look like others are the point

from __future__ import annotations

import random
from collections.abc import Sequence

_PIECES = (
    *("Hello, world!", "it's I'll we've DON'T", "ÀÉÎÕÜ ß ẞ İ ı ſ Ǆ ﬁ", "naïve café ÅNGSTRÖM"),
    *(
        "今天天气很好。",
        "春眠不覺曉，處處聞啼鳥",
        "東京タワーは、高い。ﾊﾝｶｸ",
        "안녕하세요 한국어",
        "𠀀𠮷㐀豈",
    ),
    *("e\u0301 a\u0308 n\u0303 \u0301x", "\u0300\u0301\u0302", "שָׁלוֹם العَرَبِيَّة हिन्दी ไทย"),
    *("👩\u200d🚀🇺🇳👍🏽", "\u200b\u200d\ufeff\u2060\u00ad", "a\x00b\x01\x1b[31m\x7f\x85c"),
    *(
        "\t \n \r\n \x0b\x0c ",
        "\u00a0\u2003\u3000\u2028\u2029 x",
        "   ",
        " lead",
        "trail ",
        "\n\n\n",
    ),
    *(
        "1234567890 3.14 ½ ٣ ４２ Ⅻ",
        "!?.,;:-_—…«»“”‘’()[]{}<>@#$%^&*+=|\\/~`",
        "！？。，、；：「」",
    ),
    *(
        "http://a.b/c?d=e&f#g",
        "snake_case CamelCase",
        "a" * 120,
        "字" * 120,
        "x" * 99 + " " + "y" * 101,
    ),
    *("\ufffd", "\ufffe", "\U0010ffff", "</w>", "##o", "▁", "Ġ", "@@", "<unk", "[CLS", "SEP]"),
)


def odd_texts(specials: Sequence[str] = (), count: int = 500, seed: int = 0) -> list[str]:
    """`count` texts: each piece alone, each special token amid others, then mixtures of all."""
    chance = random.Random(seed)
    pieces = [*_PIECES, *specials]
    texts = ["", *_PIECES]
    for special in specials:
        texts += [special, f"a{special}b", f"字 {special} 字", special.lower(), special * 2]
    while len(texts) < count:
        parts = [
            chance.choice(pieces) if chance.random() < 0.7 else _any_text(chance)
            for _ in range(chance.randint(1, 5))
        ]
        texts.append(chance.choice(["", " ", "  ", "\n"]).join(parts))
    return texts[:count]


def _any_text(chance: random.Random) -> str:
    high = chance.choice([0x7F, 0x2FF, 0xFFFF, 0x10FFFF])
    points = [chance.randint(0, high) for _ in range(chance.randint(1, 12))]
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
