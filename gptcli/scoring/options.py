"""The options of `gptcli score` that change a number: context, windows, words.

The Python API takes the same group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.options.shared import BOS, STRIDE
from gptcli.options.spec import Options, option
from gptcli.scoring.units import Unit

WordMethod = Literal["leading", "trailing"]


@dataclass(frozen=True, kw_only=True)
class Scoring(Options):
    """The context of each token, and how tokens become words."""

    panel = "Scoring"

    bos: bool = BOS
    context: str = option(
        "",
        "--context",
        "Score the text as the continuation of this one, which is not scored itself.",
        metavar="TEXT",
        parse=str,  # so that its bytes are read as UTF-8 in every locale
    )
    stride: int | None = STRIDE
    regions: str | None = option(
        None,
        "--regions",
        "Sum the surprisal over regions of interest. A mark such as | cuts the text and is not"
        " scored; or name a column with one label for each word. With --words, number the regions.",
        metavar="MARK|COLUMN",
    )
    units: Unit = option(
        "word",
        "--units",
        "What a word is, in --words, labels of --regions and bits per word: word, between white"
        " space; character, for text without spaces; jieba, words of Chinese (gptcli[languages]).",
    )
    word_method: WordMethod = option(
        "leading",
        "--word-method",
        "Which word the white space between two words belongs to: leading, the word after it, as"
        " in GPT-2's tokens; trailing, the word before it (Pimentel and Meister 2024; Oh and"
        " Schuler 2024).",
        rare=True,
    )
