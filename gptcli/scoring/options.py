"""What is scored given what: the options of `gptcli score` that change a number.

A group of its own, so that the library takes the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.options.shared import BOS, STRIDE
from gptcli.options.spec import Options, option

WordMethod = Literal["leading", "trailing"]


@dataclass(frozen=True, kw_only=True)
class Scoring(Options):
    """What each token is scored given."""

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
    word_method: WordMethod = option(
        "leading",
        "--word-method",
        "Which word the white space between two words counts for: leading, the word after it, as"
        " the tokens have it; trailing, the word before it (Pimentel and Meister 2024; Oh and"
        " Schuler 2024).",
        rare=True,
    )
