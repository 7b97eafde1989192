"""The slash commands of a conversation.

A command changes the conversation and returns an `Outcome`. The loop in `gptcli.cli.commands.chat`
shows replies, so `/retry` only asks the loop for one. Settings are the fields of `Sampling`: `/set`
takes the name of every flag and checks its range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from gptcli.chat import Conversation, load, save
from gptcli.errors import UsageError
from gptcli.options import Sampling
from gptcli.options.spec import spec_of

HELP = (
    "/help             this list",
    "/clear            begin anew",
    "/undo             take the last message and its reply back",
    "/retry            write another reply to the last message",
    "/set NAME VALUE   change a setting, as in /set temperature 0.5; none is its default",
    "/set              list the settings",
    "/save FILE        keep the conversation in a file",
    "/load FILE        go on with a conversation from a file",
    "/exit             leave; so does Ctrl-D",
    "//                begins a message that begins with a slash",
    '"""               begins and ends a message of several lines',
)
FIXED_SETTINGS = {"num_return_sequences", "num_beams", "logprobs"}  # one value is possible
YES, NO = {"on", "true", "yes", "1"}, {"off", "false", "no", "0"}
QUOTE_CHARACTERS = 60  # of a message that is repeated in a notice


@dataclass(frozen=True)
class Outcome:
    """What the loop does after a command."""

    said: tuple[str, ...] = ()
    retry: bool = False
    leave: bool = False


class Commands:
    """The commands of one conversation."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._own: set[Path] = set()
        self._known: dict[str, Callable[[str], Outcome]] = {
            "help": lambda text: Outcome(HELP),
            "clear": self._clear,
            "undo": self._undo,
            "retry": lambda text: Outcome(retry=True),
            "set": self._set,
            "save": self._save,
            "load": self._load,
            "exit": lambda text: Outcome(leave=True),
        }

    def run(self, line: str) -> Outcome:
        """Run the command of `line`, which begins with a slash.

        Raises UsageError for an unknown command or a missing argument, and what `load` and `save`
        raise.
        """
        name, _, rest = line[1:].partition(" ")
        command = self._known.get(name.strip().lower())
        if command is None:
            near = get_close_matches(name.lower(), self._known, 1)
            hint = f"Did you mean /{near[0]}?" if near else "See /help; // begins with a slash."
            raise UsageError(f"/{name[:QUOTE_CHARACTERS]}", "no such command", hint)
        return command(rest.strip())

    def _clear(self, text: str) -> Outcome:
        self._conversation.clear()
        return Outcome(("cleared: nothing was said yet",))

    def _undo(self, text: str) -> Outcome:
        message = self._conversation.undo()
        more = "..." if len(message) > QUOTE_CHARACTERS else ""
        return Outcome((f"taken back: {message[:QUOTE_CHARACTERS]}{more}",))

    def _set(self, text: str) -> Outcome:
        name, _, value = text.partition(" ")
        sampling = self._conversation.sampling
        if not name:
            return Outcome(tuple(_listed(sampling)))
        if value:
            sampling = changed(sampling, name, value.strip())
            self._conversation.sampling = sampling
        item = _field(name)
        return Outcome((f"{item.name} = {_shown(getattr(sampling, item.name))}",))

    def _save(self, text: str) -> Outcome:
        if not text:
            raise UsageError("/save", "it needs a file's name", "For example: /save talk.json")
        self._own.add(save(self._conversation, text, self._own))
        return Outcome((f"saved {self._size()} in {text}",))

    def _load(self, text: str) -> Outcome:
        if not text:
            raise UsageError("/load", "it needs a file's name", "For example: /load talk.json")
        self._own.add(load(self._conversation, text))
        return Outcome((f"loaded {self._size()} from {text}",))

    def _size(self) -> str:
        count = len(self._conversation.turns) // 2
        return "1 message and its reply" if count == 1 else f"{count} messages and their replies"


def changed(sampling: Sampling, name: str, text: str) -> Sampling:
    """`sampling` with the field `name` read from `text`. Raises UsageError."""
    item = _field(name)
    return replace(sampling, **{item.name: _value(item, text)})


def _listed(sampling: Sampling) -> Iterator[str]:
    for item in fields(Sampling):
        if item.name not in FIXED_SETTINGS:
            yield f"{item.name} = {_shown(getattr(sampling, item.name))}"


def _field(name: str) -> Field[Any]:
    """The setting with this name; each of its flags is a name. Raises UsageError."""
    plain = name.lower().lstrip("-").replace("_", "-")
    known: dict[str, Field[Any]] = {}
    for item in fields(Sampling):
        flags = [flag for flag in spec_of(item).flags if flag.startswith("--")]
        known |= {flag.removeprefix("--"): item for flag in flags}
    if plain not in known:
        near = get_close_matches(plain, known, 1)
        hint = f"Did you mean {near[0]}?" if near else "/set lists them."
        raise UsageError(f"/set {name[:QUOTE_CHARACTERS]}", "no such setting", hint)
    return known[plain]


def _value(item: Field[Any], text: str) -> Any:
    """A setting's value from its text. Raises UsageError."""
    hint = get_type_hints(Sampling)[item.name]
    many = get_origin(hint) is tuple
    if text == "none":
        return item.default
    if many:
        parse = spec_of(item).parse
        return (parse(text) if parse else text,)
    kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
    if kind is bool and text.lower() in YES | NO:
        return text.lower() in YES
    try:
        if kind is not bool:
            return kind(text)
    except ValueError:
        pass
    names = {bool: "on or off", int: "a whole number", float: "a number"}
    raise UsageError(f"/set {item.name}", f"{text[:QUOTE_CHARACTERS]!r} is not {names[kind]}", "")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(repr, value)) or "none"
    return "none" if value is None else str(value)
