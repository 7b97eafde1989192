"""The file of a conversation: JSON that a person can read and write, checked strictly.

    {"version": 1, "model": "gpt2", "template": "transcript", "system": null,
     "turns": [{"role": "user", "content": "Hi"},
               {"role": "assistant", "content": "Hello.", "written": " Hello."}]}

`written` is the reply as the model wrote it, white space included. Only the template named in the
file reads it; others read `content`. The file has no settings. `model` is information for the
reader. A file is written whole or not at all. A name in .txt or .md gets the conversation as text,
for a reader; it cannot be loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

from gptcli.chat.conversation import Conversation
from gptcli.chat_templates import Role, Transcript, Turn
from gptcli.errors import BadInput, BadModel, CannotCreate, MissingInput, WriteFailed
from gptcli.options.formats import SUFFIXES, format_of, suffix_of
from gptcli.system import durable
from gptcli.system.os_errors import reason, said
from gptcli.system.strict_json import Object, parse_object, read_bytes

VERSION = 1
MAX_FILE_BYTES = 4 << 20  # a thousand times the longest context
KEYS = {"version", "model", "template", "system", "turns"}
EXISTS, RENAME = "it exists already", "Choose another name."


def save(conversation: Conversation, name: str, own: Collection[Path] = ()) -> Path:
    """Write the conversation to the file `name` and return its absolute path.

    The suffix decides the format. Raises UsageError for a suffix that stands for none, CannotCreate
    if the file exists (and is none of `own`) or cannot be made, and WriteFailed.
    """
    path = _path(name, CannotCreate)
    bold = "**" if suffix_of(name) == ".md" else ""
    text = told(conversation, bold) if _is_text(name) else _document(conversation)
    data = text.encode("utf-8", "replace")
    try:
        if path.exists() and not (path in own and path.is_file()):
            why = EXISTS if path.is_file() else "it is no regular file"
            raise CannotCreate(name, why, RENAME)
        with durable.new_file(path) as file:
            _fill(file, data, name)
            if path in own:
                file.put()
            else:
                file.put_new()
    except FileExistsError:  # made after the check above
        raise CannotCreate(name, EXISTS, RENAME) from None
    except OSError as error:
        raise CannotCreate(name, reason(error), RENAME) from None
    return path


def place(name: str) -> Path:
    """The absolute path of the file that `save` writes. Raises CannotCreate for a bad name."""
    return _path(name, CannotCreate)


def told(conversation: Conversation, bold: str = "") -> str:
    """The conversation as text for a reader: names, what they said, an empty line between turns."""
    user, bot = names(conversation)
    marked = {"user": f"{bold}{user}:{bold}", "assistant": f"{bold}{bot}:{bold}"}
    said = [f"{marked[turn.role]} {turn.content}" for turn in conversation.turns]
    parts = [conversation.system or "", *said]
    return "\n\n".join(filter(None, parts)) + "\n"


def names(conversation: Conversation) -> tuple[str, str]:
    """What the two sides are called: by a transcript's names, else "You" and the model's name."""
    template = conversation.template
    if isinstance(template, Transcript):
        return template.user, template.bot
    return "You", conversation.engine.info.name


def _is_text(name: str) -> bool:
    """Whether the suffix asks for text. Raises UsageError for that of another format."""
    return format_of(name, ("json", "text"), "json", flag="/save", override="") == "text"


def _document(conversation: Conversation) -> str:
    whole = {
        "version": VERSION,
        "model": conversation.engine.info.name,
        "template": conversation.template.name,
        "system": conversation.system,
        "turns": [_turn_object(turn) for turn in conversation.turns],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def load(conversation: Conversation, name: str) -> Path:
    """Replace the conversation by that of the file `name`; return the file's absolute path.

    Raises MissingInput for a file that cannot be read, and BadInput, which names the broken rule,
    for one that is no conversation. Then the conversation is unchanged.
    """
    path = _path(name, MissingInput)
    if SUFFIXES.get(suffix_of(name)) == "text" and os.path.isfile(path):  # noqa: PTH113 - never raises
        hint = "Save it as .json to go on with it later."
        raise BadInput(f"conversation {name}", "it is text for readers", hint)
    try:
        found = parse_object(read_bytes(path, MAX_FILE_BYTES))
        own = _check(found) == conversation.template.name
        system = found.get("system")
        turns = [_turn(item, place, own) for place, item in enumerate(_list(found.get("turns")))]
        if len(turns) % 2:
            raise ValueError("the last turn is the user's")
        _check_unicode([system, *(text for turn in turns for text in (turn.content, turn.written))])
    except BadModel as error:  # not a regular file, or a file above the limit
        why = error.why.partition(": ")[2]
    except ValueError as error:
        why = str(error)
    else:
        conversation.restore(turns, system if isinstance(system, str) else None)
        return path
    raise BadInput(f"conversation {name}", why, "Load a file that /save made.")


def _path(name: str, error: type[CannotCreate] | type[MissingInput]) -> Path:
    try:
        if not name or "\0" in name:
            raise RuntimeError("not a file's name")
        return Path(name).expanduser().absolute()
    except RuntimeError as fault:  # or the home folder of an unknown user
        raise error(name or "no name", str(fault).rstrip(".").lower(), RENAME) from None


def _fill(file: durable.NewFile, data: bytes, name: str) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        why = said(error)
        raise WriteFailed(name, why, "Make room, or save elsewhere.") from None


def _turn_object(turn: Turn) -> dict[str, str]:
    shown = {"role": turn.role, "content": turn.content}
    return shown if turn.written is None else {**shown, "written": turn.written}


def _check(found: Object) -> str:
    """The name of the template. Raises ValueError for wrong or missing keys."""
    strange = sorted(found.keys() ^ KEYS)
    if strange:
        verb = "lacks" if strange[0] in KEYS else "does not know"
        raise ValueError(f"a conversation {verb} {strange[0][:40]!r}")
    version = found["version"]
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"version is {str(version)[:40]}, not {VERSION}")
    if not isinstance(found["template"], str) or not isinstance(found["model"], str):
        raise ValueError("template and model are texts")
    if not isinstance(found["system"], str | None):
        raise ValueError("system is neither a text nor null")
    return found["template"]


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("turns is not a list")
    return value


def _turn(item: object, place: int, own: bool) -> Turn:
    """One turn. User and assistant alternate; only the assistant has `written`."""
    role: Role = "assistant" if place % 2 else "user"
    allowed = {"role", "content", "written"} if place % 2 else {"role", "content"}
    where = f"turn {place + 1}"
    if not isinstance(item, dict) or not {"role", "content"} <= item.keys() <= allowed:
        raise ValueError(f"{where} has other keys than {', '.join(sorted(allowed))}")
    if item["role"] != role:
        raise ValueError(f"{where} is not the {role}'s")
    if not all(isinstance(text, str) for text in item.values()):
        raise ValueError(f"{where} holds what is not a text")
    return Turn(role, item["content"], item.get("written") if own else None)


def _check_unicode(texts: list[object]) -> None:
    for text in texts:
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds a lone surrogate") from None
