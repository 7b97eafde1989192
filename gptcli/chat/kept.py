"""Conversations that are kept without being asked: a file for each, in the data folder.

At a terminal the file is rewritten after each reply, so that no crash and no closed window loses a
conversation. `/clear` and `/load` begin a new file. Only the newest `MAX_FILES` stay.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from os import getpid
from pathlib import Path

from gptcli.chat.conversation import Conversation
from gptcli.chat.saved import save
from gptcli.errors import GptcliError, MissingInput
from gptcli.inputs.records import Note

MAX_FILES = 100


def folder() -> Path:
    """The folder of the files; it may not exist."""
    import platformdirs

    return Path(platformdirs.user_data_dir("gptcli", appauthor=False)) / "chats"


def last() -> Path:
    """The file of the last conversation. Raises MissingInput if none was kept."""
    found = _files(folder())
    if not found:
        hint = "Conversations at a terminal are kept; /save FILE and --load FILE work anywhere."
        raise MissingInput("the last conversation", "there is none", hint)
    return found[-1]


class Keeper:
    """Keeps one conversation after another. A failure is reported once and is no error."""

    def __init__(self, note: Note) -> None:
        self._note, self._file, self.failed = note, Path(), False
        self.begin()

    def begin(self) -> None:
        """Keep what follows in a new file."""
        self._file = folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{getpid()}.json"

    def keep(self, conversation: Conversation) -> None:
        """Write the conversation to the file, unless nothing was said."""
        if not conversation.turns or self.failed:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            save(conversation, str(self._file), {self._file})
            for old in _files(self._file.parent)[:-MAX_FILES]:
                with suppress(OSError):
                    old.unlink()
        except (OSError, GptcliError) as error:
            self.failed = True
            self._note(f"the conversation is not kept: {error}")


def _files(place: Path) -> list[Path]:
    """The kept conversations, the last one last."""
    found = []
    with suppress(OSError):
        for path in place.glob("*.json"):
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]
