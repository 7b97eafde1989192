"""What a filter is and did, as JSON, records and manifests show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from gptcli.options.model import Load
from gptcli.options.moderation import Moderate, ModeratedLoad


def identity(load: Load) -> dict[str, object]:
    """What a text depends on: the options of the filter, and digests of its lists and classifier.

    Empty without a filter. Raises as `gptcli.moderation.lists.read_lists`, and BadModel.
    """
    if not isinstance(load, ModeratedLoad) or not load.moderated:
        return {}
    from gptcli.moderation.lists import read_lists

    found: dict[str, object] = {
        item.name: getattr(load, item.name)
        for item in fields(Moderate)
        if getattr(load, item.name) != item.default
    }
    found["filter_action"] = load.filter_action
    lists = read_lists(load.filter, load.filter_language)
    found["filter_lists"] = {one.name: one.sha256 for one in lists}
    if load.moderator is not None:
        from gptcli.moderation.checkpoint import checked, digest

        found["moderator_sha256"] = digest(checked(load)[0])
    return found


def moved(
    filter: Mapping[str, object] | None, by: int | None, within: range | None = None
) -> Mapping[str, object] | None:
    """The same for a text that begins `by` characters earlier; None: nobody knows where.

    Matches that do not begin `within` places are left out: their text has not left.
    """
    if filter is None:
        return None
    matches = []
    for match in _matches(filter):
        found = dict(match)
        for name in ("start", "end"):
            if name in found:
                found[name] += by or 0
        if within is not None and "end" in found and found["start"] not in within:
            continue
        if by is None:
            found.pop("start", None)
            found.pop("end", None)
        matches.append(found)
    return {**filter, "matches": matches}


def joined(parts: Iterable[Mapping[str, object] | None]) -> Mapping[str, object] | None:
    """What was done to the parts of one text; None without a filter."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    whole = {**found[0], "matches": [match for part in found for match in _matches(part)]}
    if "retries" in whole:
        whole["retries"] = sum(int(str(part["retries"])) for part in found)
    return whole


def _matches(filter: Mapping[str, object]) -> list[dict[str, Any]]:
    found: Any = filter["matches"]
    return list(found)
