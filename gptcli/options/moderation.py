"""Options of the filter over the text that leaves, and a model to load with them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.model import Load
from gptcli.options.spec import Options, flag_of, option

FilterAction = Literal["stop", "mask", "retry", "report"]
DEFAULT_THRESHOLD = 0.5
MAX_RETRIES = 100


def parse_label(text: str) -> tuple[str, float]:
    """Split `LABEL[=THRESHOLD]`. Raises UsageError for a threshold that is no probability."""
    label, equals, value = text.rpartition("=")
    if not equals:
        return text, DEFAULT_THRESHOLD
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1
    if not label or not 0 < threshold <= 1:
        hint = "Give a label, or LABEL=THRESHOLD such as toxic=0.8."
        raise UsageError("--moderator-label", f"{text[:60]!r} is not LABEL=THRESHOLD", hint)
    return label, threshold


def _no_empty(names: tuple[str, ...]) -> None:
    if "" in names:
        raise UsageError("--filter", "the name is empty", "Name a list or a file.")


@dataclass(frozen=True, kw_only=True)
class Judges(Options):
    """What is looked for in a text."""

    panel = "Moderation"

    filter: tuple[str, ...] = option(
        (),
        "--filter",
        "Look for the phrases of a list in the text: basic, a list of your own, or a file;"
        " repeatable.",
        metavar="LIST",
        names="file",
        check=_no_empty,
        panel="Moderation",
        rare=True,
    )
    filter_language: tuple[str, ...] = option(
        (),
        "--filter-language",
        "Take of the lists only the phrases of this language, such as de; repeatable.",
        metavar="LANGUAGE",
        shown_default="all",
        needs="filter",
        panel="Moderation",
        rare=True,
    )
    moderator: str | None = option(
        None,
        "--moderator",
        "Judge every sentence with a classifier: the folder of a sequence classification model.",
        metavar="MODEL",
        names="model",
        panel="Moderation",
        rare=True,
    )
    moderator_label: tuple[tuple[str, float], ...] = option(
        (),
        "--moderator-label",
        "A label of the classifier that counts as a match, from this probability on; repeatable.",
        metavar="LABEL[=THRESHOLD]",
        parse=parse_label,
        needs="moderator",
        panel="Moderation",
        rare=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for label, threshold in self.moderator_label:
            if not label or not 0 < threshold <= 1:
                hint = "Give a threshold above 0 and at most 1."
                why = f"{label!r}: {threshold} is out of range"
                raise UsageError("--moderator-label", why, hint)
        if self.moderator_label and self.moderator is None:
            raise UsageError("--moderator-label", "there is no moderator", "Add --moderator MODEL.")
        if self.filter_language and not self.filter:
            raise UsageError("--filter-language", "there is no list", "Add --filter LIST.")

    @property
    def moderated(self) -> bool:
        """Whether anything is looked for."""
        return bool(self.filter) or self.moderator is not None


@dataclass(frozen=True, kw_only=True)
class Moderate(Judges):
    """What is looked for in the text that leaves, and what is done where it is found."""

    panel = "Moderation"

    filter_action: FilterAction = option(
        "stop",
        "--filter-action",
        "End the text before a match, mask it, draw the text again, or report matches in JSON.",
        needs="filter moderator",
        panel="Moderation",
        rare=True,
    )
    filter_retries: int = option(
        8,
        "--filter-retries",
        "How often a text is drawn again with --filter-action retry; then it is dropped.",
        low=1,
        high=MAX_RETRIES,
        needs="filter moderator",
        panel="Moderation",
        rare=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moderated:
            return
        for item in fields(self):
            if not item.name.startswith("filter_") or getattr(self, item.name) == item.default:
                continue
            hint = "Add --filter basic, or --moderator MODEL."
            raise UsageError(flag_of(item), "there is no filter", hint)


@dataclass(frozen=True, kw_only=True)
class ModeratedLoad(Moderate, Load):
    """A model whose text may be filtered."""

    panel = "Model"


def moderated(load: Load | None) -> ModeratedLoad | None:
    """The same model, with no filter if none is told. Raises UsageError for another thing."""
    if load is None or isinstance(load, ModeratedLoad):
        return load
    if not isinstance(load, Load):
        raise UsageError("load", f"{load!r:.60} is no Load", "Give a Load, or keyword arguments.")
    return ModeratedLoad(**{item.name: getattr(load, item.name) for item in fields(load)})
