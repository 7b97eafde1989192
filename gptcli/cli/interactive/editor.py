"""The user's editor: `$VISUAL`, `$EDITOR`, else the first one that is installed.

It runs on the terminal of this process, and Ctrl-C belongs to it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp

from gptcli.cli import signals
from gptcli.errors import BadInput, GptcliError, Unavailable
from gptcli.system.os_errors import reason

EDITORS = ("sensible-editor", "nano", "vi")


def edit_file(file: Path) -> None:
    """Open the file in the editor and wait until it ends. Raises Unavailable."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _first_editor()
    try:
        with signals.interruptible(lambda: None):
            code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        raise Unavailable(f"editor {editor}", str(error), "Set EDITOR to another.") from None
    if code:
        raise Unavailable(f"editor {editor}", f"it ended with code {code}", "See what it said.")


def edited(text: str) -> str:
    """Let the user edit a text and return what was saved, without the line break at its end.

    Raises Unavailable (the editor, or its file) and BadInput (not UTF-8).
    """
    try:
        with TemporaryDirectory(prefix="gptcli-edit-") as folder:
            file = Path(folder) / "text.md"
            file.write_text(text + "\n" if text else "", encoding="utf-8", errors="replace")
            edit_file(file)
            return file.read_bytes().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        why = f"invalid UTF-8 at byte {error.start}"
        raise BadInput("edited text", why, "Save it as UTF-8.") from None
    except OSError as error:
        raise Unavailable("edited text", reason(error), "Check TMPDIR.") from None


@contextmanager
def rescuing(text: str, note: Callable[[str], None]) -> Iterator[None]:
    """Keep a text that was edited in a file if what uses it fails, and tell where."""
    try:
        yield
    except GptcliError:
        with suppress(OSError):
            descriptor, name = mkstemp(prefix="gptcli-prompt-", suffix=".txt")
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(text + "\n")
            note(f"the prompt is kept in {name}")
        raise


def _first_editor() -> str:
    found = next((name for name in EDITORS if shutil.which(name)), None)
    if found is None:
        raise Unavailable("editor", "none was found", "Set EDITOR.")
    return found
