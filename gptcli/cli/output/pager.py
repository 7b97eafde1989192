"""Show a long text in the pager of the user's choice.

`PAGER` names it, as for git and man; without it `less -R` is taken where it is installed. Without
`LESS` in the environment, less gets the options that git gives it: a text of one screen is printed.
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
LESS = "FRX"  # leave if one screen is enough, take colours, keep the text when it ends


def page(text: str) -> bool:
    """Show `text`, styles and all, and wait until the reader leaves; False if there is no pager."""
    words = _words()
    if not words:
        return False
    with signals.interruptible(lambda: None):  # Ctrl-C is the pager's
        try:
            pager = subprocess.Popen(
                words, stdin=subprocess.PIPE, env={"LESS": LESS, "LV": "-c", **os.environ}
            )
        except OSError as error:
            stderr.note(f"PAGER: {words[0]}: {(error.strerror or str(error)).lower()}")
            return False
        with suppress(OSError):  # the reader left before the end
            pager.communicate(text.encode())
        pager.wait()
    return True


def _words() -> list[str]:
    """The pager's command; empty if the text should be printed as it is."""
    named = os.environ.get("PAGER")
    if named is None:
        return shlex.split(DEFAULT) if shutil.which("less") else []
    try:
        words = shlex.split(named)
    except ValueError as error:
        stderr.note(f"PAGER: {str(error).lower()}")
        return []
    return [] if words == ["cat"] else words
