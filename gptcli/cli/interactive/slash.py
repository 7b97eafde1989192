"""The slash commands of a conversation.

A command changes the conversation and returns an `Outcome`. The loop in `gptcli.cli.commands.chat`
shows replies, so `/retry` only asks the loop for one. Settings are the fields of `Sampling`: `/set`
takes the name of every flag and checks its range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from gptcli.chat import Conversation, Keeper, load, place, save, told
from gptcli.chat_templates import Turn
from gptcli.cli.interactive.editor import edited
from gptcli.errors import CannotCreate, UsageError
from gptcli.options import Sampling
from gptcli.options.spec import spec_of, unescape
from gptcli.system.regular_files import open_regular

HELP = (
    "/help             this list",
    "/show             show the conversation",
    "/clear            begin anew; /undo brings the conversation back",
    "/undo             take the last message and its reply back, or undo /clear, /load or /edit",
    "/retry            write another reply to the last message",
    "/alt, /alt N      list the replies to the last message; take the N-th one",
    "/edit             edit your last message in $EDITOR, and send it again",
    "/edit reply       edit the last reply in $EDITOR",
    "/system TEXT      change the text before the conversation; none removes it",
    "/set NAME VALUE   change a setting, as in /set temperature 0.5; none is its default",
    "/set              list the settings",
    "/save FILE        keep the conversation: .json to go on with it, .txt or .md to read it",
    "/load FILE        go on with a conversation from a .json file",
    "/exit, /bye       leave; so does Ctrl-D",
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
    message: str | None = None  # to send in place of the last one
    leave: bool = False


class Commands:
    """The commands of one conversation."""

    def __init__(
        self, conversation: Conversation, keeper: Keeper | None = None, terminal: bool = False
    ) -> None:
        self._conversation, self._keeper, self._terminal = conversation, keeper, terminal
        self._own: dict[Path, _FileState] = {}  # the files that were saved or loaded here
        self._saved: tuple[Turn, ...] = ()
        self._warned = False
        self._known: dict[str, Callable[[str], Outcome]] = {
            "help": lambda text: Outcome(HELP),
            "show": lambda text: Outcome(tuple(told(conversation).splitlines())),
            "clear": self._clear,
            "undo": self._undo,
            "retry": lambda text: Outcome(retry=True),
            "alt": self._alt,
            "edit": self._edit,
            "system": self._system,
            "set": self._set,
            "save": self._save,
            "load": self._load,
            **dict.fromkeys(("exit", "bye", "quit"), self._exit),
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

    def keep(self) -> None:
        """Keep the conversation as it is now, if it is kept at all."""
        if self._keeper is not None:
            self._keeper.keep(self._conversation)

    def parting(self) -> tuple[str, ...]:
        """What to say when one leaves: how to go on with what was kept."""
        kept = self._keeper is not None and not self._keeper.failed
        return ("kept: gptcli chat -c goes on with it",) if kept and self._unsaved else ()

    @property
    def _unsaved(self) -> bool:
        """Whether something was said at a terminal that is in no file of the user's."""
        turns = self._conversation.turns
        return self._terminal and bool(turns) and turns != self._saved

    def _exit(self, text: str) -> Outcome:
        """Leave; if the conversation is kept nowhere, only the second time."""
        kept = self._keeper is not None and not self._keeper.failed
        if self._warned or kept or not self._unsaved:
            return Outcome(leave=True)
        self._warned = True
        turns = _size(self._conversation.turns)
        return Outcome((f"{turns} not saved: /save FILE keeps them, /exit again leaves",))

    def _clear(self, text: str) -> Outcome:
        before = self._conversation.turns
        self._renew()
        self._conversation.clear()
        more = f"; /undo brings {_size(before)} back" if before else ""
        return Outcome((f"cleared: nothing was said yet{more}",))

    def _renew(self) -> None:
        """Keep what was said, and keep what comes in another file."""
        if self._keeper is not None:
            self._keeper.keep(self._conversation)
            self._keeper.begin()

    def _undo(self, text: str) -> Outcome:
        if self._conversation.bring_back():
            return Outcome((f"back: {_size(self._conversation.turns)}",))
        message = self._conversation.undo()
        return Outcome((f"taken back: {_quoted(message)}",))

    def _alt(self, text: str) -> Outcome:
        if text:
            try:
                number = int(text)
            except ValueError:
                raise UsageError("/alt", f"{_quoted(text)!r} is not a number", "") from None
            return Outcome(tuple(self._conversation.choose(number).content.splitlines()))
        turns, replies = self._conversation.turns, self._conversation.alternatives
        if not turns:
            raise UsageError("/alt", "nothing was said yet", "Say something first.")
        place = max(at for at, turn in enumerate(replies) if turn == turns[-1])
        return Outcome(
            tuple(
                f"{'*' if at == place else ' '} {at + 1}  {_quoted(turn.content)}"
                for at, turn in enumerate(replies)
            )
        )

    def _edit(self, text: str) -> Outcome:
        if not self._terminal:
            raise UsageError("/edit", "it needs a terminal", "Write the message on a line.")
        if text not in ("", "reply"):
            raise UsageError("/edit", f"{_quoted(text)!r} is unknown", "/edit or /edit reply.")
        turns = self._conversation.turns
        before = turns[-1 if text else -2].content if turns else ""
        after = edited(before)
        if after == before or not after.strip():
            return Outcome(("nothing was changed",))
        if not text:
            return Outcome(message=after)
        self._conversation.revise(after)
        return Outcome(("changed; /alt lists what was there before",))

    def _system(self, text: str) -> Outcome:
        if text:
            self._conversation.system = None if text == "none" else unescape(text)
        system = self._conversation.system
        return Outcome(("no text before the conversation" if system is None else system,))

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
        forced, _, rest = text.partition(" ")
        name = rest.strip() if forced == "--force" else text
        if not name:
            raise UsageError("/save", "it needs a file's name", "For example: /save talk.json")
        path = place(name)
        if forced == "--force":
            allowed = {path}
        else:
            allowed = {path} if path in self._own else set()
            self._check_own(path, name)
        save(self._conversation, name, allowed)
        self._remember(path)
        return Outcome((f"saved {_size(self._saved)} in {name}",))

    def _check_own(self, path: Path, name: str) -> None:
        """Raises CannotCreate where overwriting a file of ours would lose something."""
        state = self._own.get(path)
        if state is None or not path.exists():
            return
        hint = f"Choose another name, or overwrite it: /save --force {name}"
        if _contents(path) != state.data:
            raise CannotCreate(name, "it was changed since it was saved", hint)
        if not _begins_with(self._conversation.turns, state.turns):
            why = "it holds what this conversation no longer has"
            raise CannotCreate(name, why, hint)

    def _load(self, text: str) -> Outcome:
        if not text:
            raise UsageError("/load", "it needs a file's name", "For example: /load talk.json")
        before = self._conversation.turns
        self.keep()
        path = load(self._conversation, text)
        if self._keeper is not None:
            self._keeper.begin()
        self._remember(path)
        more = f"; /undo goes back to {_size(before)}" if before else ""
        return Outcome((f"loaded {_size(self._conversation.turns)} from {text}{more}",))

    def _remember(self, path: Path) -> None:
        self._saved = self._conversation.turns
        self._own[path] = _FileState(self._saved, _contents(path))


@dataclass(frozen=True)
class _FileState:
    """The turns and the bytes that a file of ours had when it was saved or loaded."""

    turns: tuple[Turn, ...]
    data: bytes | None


def _contents(path: Path) -> bytes | None:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError:
        return None


def _begins_with(turns: Sequence[Turn], start: Sequence[Turn]) -> bool:
    """Whether the conversation has everything that `start` has, in its place."""
    said = [(turn.role, turn.content) for turn in turns[: len(start)]]
    return said == [(turn.role, turn.content) for turn in start]


def _size(turns: Sequence[Turn]) -> str:
    count = len(turns) // 2
    return "1 message and its reply" if count == 1 else f"{count} messages and their replies"


def _quoted(text: str) -> str:
    more = "..." if len(text) > QUOTE_CHARACTERS else ""
    return f"{text[:QUOTE_CHARACTERS]}{more}"


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
