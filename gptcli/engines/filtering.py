"""An engine behind the filter that its options ask for. The lists are read before any model is."""

from __future__ import annotations

from collections.abc import Callable

from gptcli.errors import UsageError
from gptcli.moderation.engine import Filter, Moderated
from gptcli.moderation.judges import Phrases, Sentences
from gptcli.moderation.lists import read_lists
from gptcli.options.moderation import ModeratedLoad
from gptcli.protocol import Engine


def judges_of(load: ModeratedLoad) -> list[Phrases | Sentences]:
    """What some options look for. Raises as `read_lists`, and as `open_classifier`."""
    judges: list[Phrases | Sentences] = []
    if load.filter:
        judges.append(Phrases(read_lists(load.filter, load.filter_language)))
    if load.moderator is not None:
        labels = dict(load.moderator_label)
        if not labels:
            hint = "Name the label that counts, such as --moderator-label toxic=0.8."
            raise UsageError("--moderator", "no label is named", hint)
        from gptcli.engines.classifier import open_classifier

        judges.append(Sentences(open_classifier(load, labels), labels))
    return judges


def filter_of(load: ModeratedLoad) -> Filter:
    """The filter of some options. Raises as `judges_of`."""
    return Filter(tuple(judges_of(load)), load.filter_action, load.filter_retries)


def behind_filter(load: ModeratedLoad, opened: Callable[[], Engine]) -> Engine:
    """Open the engine behind its filter. Raises as `filter_of` and as `opened`."""
    filter = filter_of(load)
    return Moderated(opened(), filter)
