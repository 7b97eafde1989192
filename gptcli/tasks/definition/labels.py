"""Checks of the labels of a classification."""

from __future__ import annotations

from collections.abc import Sequence

from gptcli.errors import UsageError


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
