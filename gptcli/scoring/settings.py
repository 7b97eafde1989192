"""What is scored given what: the options of `gptcli score` that change a number.

A group of its own, so that the library takes the same ones. Left out: where texts come from and how
rows are written, which is the command's business.
"""

# ruff: noqa: RUF009 - option() returns a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.specs import Options, option

WordMethod = Literal["leading", "trailing"]


@dataclass(frozen=True, kw_only=True)
class Scoring(Options):
    """What each token is scored given."""

    panel = "Scoring"

    bos: bool = option(
        True,
        "--bos/--no-bos",
        "Put <|endoftext|> before the text, so that its first token is scored as the first of a"
        " document; without it and without --context the first token has no score.",
    )
    context: str = option(
        "",
        "--context",
        "Score the text as what follows this one, which is not scored itself.",
        metavar="TEXT",
        parse=str,  # so that its bytes are read as UTF-8 in every locale
    )
    stride: int | None = option(
        None,
        "--stride",
        "How far the window moves over a text longer than the model's context; smaller gives every"
        " token more to go by, and takes longer.  [default: half the context]",
        low=1,
        high=10**9,
    )
    word_method: WordMethod = option(
        "leading",
        "--word-method",
        "Which word the white space between two counts for: leading, the one behind it, as the"
        " tokens have it; trailing, the one before it, which it ends (Pimentel and Meister 2024;"
        " Oh and Schuler 2024).",
    )
