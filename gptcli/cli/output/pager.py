"""Show a long text in the user's pager.

`PAGER` names the pager, as for git and man; the default is `less -R`, if installed. If `LESS` is
not set, less gets the options that git gives it: a text of one screen is printed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from contextlib import suppress

from gptcli.cli import signals
from gptcli.cli.output import stderr

DEFAULT = "less -R"
LESS = "FRX"  # quit if one screen is enough, allow colours, leave the text on the screen


def page(text: str) -> bool:
    """Show `text` with its styles and wait until the pager ends; False if there is no pager."""
    words = _words()
    if not words:
        return False
    with signals.interruptible(lambda: None):  # the pager handles Ctrl-C
        try:
            pager = subprocess.Popen(
                words, stdin=subprocess.PIPE, env={"LESS": LESS, "LV": "-c", **os.environ}
            )
        except OSError as error:
            stderr.note(f"PAGER: {words[0]}: {(error.strerror or str(error)).lower()}")
            return False
        with suppress(OSError):  # the pager ended before the text did
            pager.communicate(text.encode())
        pager.wait()
    return True


def _words() -> list[str]:
    """The words of the pager's command; empty to print the text without a pager."""
    named = os.environ.get("PAGER")
    if named is None:
        return shlex.split(DEFAULT) if shutil.which("less") else []
    try:
        words = shlex.split(named)
    except ValueError as error:
        stderr.note(f"PAGER: {str(error).lower()}")
        return []
    return [] if words == ["cat"] else words
