"""What the inputs of a batch say of themselves, each once: guesses, settings, renamed columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from gptcli.inputs.columns import CarriedNames
from gptcli.inputs.lines import unheard
from gptcli.inputs.records import Note

_OF_EVERY_ROW = frozenset(
    (
        *("key", "id", "index", "text", "finish_reason", "usage", "seed", "model", "revision"),
        *("truncated", "error", "choices", "logprobs"),
        *("prompt_tokens", "completion_tokens", "total_tokens"),  # usage, in a table
    )
)
OF_COMPLETIONS = _OF_EVERY_ROW | {"prompt"}
"""The names that the output has itself, without a task."""
OF_ANSWERS = _OF_EVERY_ROW | {
    *("task", "input", "mean_logprob", "abstained", "labels", "entities"),
}
"""The names that the output has itself, with a task."""


class RowNotices:
    """Says things once; knows which column names the output has itself."""

    def __init__(self, note: Note = unheard, own: Iterable[str] = OF_COMPLETIONS) -> None:
        self._note = note
        self._own = frozenset(own)
        self._said: set[str] = set()
        self._names = CarriedNames(self._own, note)

    def say(self, notice: str) -> None:
        """Say it, unless it was said."""
        if notice not in self._said:
            self._said.add(notice)
            self._note(notice)

    def settings(self, names: Set[str]) -> None:
        """Say which columns are taken as settings."""
        new = sorted(name for name in names if f"setting {name}" not in self._said)
        if new:
            self._said |= {f"setting {name}" for name in new}
            what = f"{', '.join(new)}: taken as {'settings' if len(new) > 1 else 'a setting'}"
            self._note(f"{what} of each row; --no-row-settings turns that off")

    def unserved(self, names: Iterable[str]) -> None:
        """Say which fields of a request are not known, and so change nothing."""
        for name in names:
            self.say(f"{name}: no such field is known here, and it is ignored")

    def carried(self, others: Mapping[str, object], settings: Set[str]) -> dict[str, object]:
        """Other columns under the names they have in the output.

        A setting that the output tells by itself, such as seed, is left out.
        """
        repeated = settings & self._own
        if repeated:
            others = {name: value for name, value in others.items() if name not in repeated}
        return self._names.carried(others)
