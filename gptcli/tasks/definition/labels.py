"""Labels of a classification, and other lists of texts: how they are written, and what is wrong."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import re
from collections.abc import Sequence

from gptcli.errors import UsageError

COMMA = re.compile("[,，、]")  # of Chinese and Japanese keyboards, too


def check_labels(labels: Sequence[str]) -> None:
    """Raise UsageError unless there are two labels or more, none empty and no two alike.

    Labels that differ only in case or in the space around them are alike.
    """
    plain = [label.strip().casefold() for label in labels]
    if "" in plain:
        raise UsageError("labels", "one of them is empty", "Give every label a name.")
    for place, label in enumerate(plain):
        if label in plain[:place]:
            raise UsageError("labels", f"{labels[place]!r} is there twice", "Give each label once.")
    if len(plain) < 2:
        raise UsageError(
            "labels",
            "there is nothing to choose between",
            "Give two or more, set apart by commas: positive,negative.",
        )
