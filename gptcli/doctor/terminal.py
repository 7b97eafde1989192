"""The terminal's capabilities, and the text encoding."""

from __future__ import annotations

import locale
import os
import shutil

from gptcli.doctor.findings import Finding, Findings

STREAMS = ("input", "output", "errors")


def terminal() -> Findings:
    """The three streams, colours, width, encoding."""
    kinds = [f"{name}: {_kind(number)}" for number, name in enumerate(STREAMS)]
    yield Finding(area="terminal", what="streams", value=", ".join(kinds))
    term = os.environ.get("TERM", "")
    if not term and "terminal" in kinds[1]:
        fix = "Set TERM, for example to xterm-256color: without it nothing is coloured or edited."
        yield Finding(area="terminal", what="TERM", value="not set", level="note", fix=fix)
    else:
        yield Finding(area="terminal", what="TERM", value=term or "not set")
    off = [name for name in ("NO_COLOR", "FORCE_COLOR") if os.environ.get(name)]
    yield Finding(area="terminal", what="colour", value=", ".join(off) or "as the terminal has it")
    width = shutil.get_terminal_size().columns
    yield Finding(area="terminal", what="width", value=f"{width} columns")
    coding = locale.getpreferredencoding(False)
    if coding.lower().replace("-", "") == "utf8":
        yield Finding(area="terminal", what="encoding", value=coding)
    else:
        fix = "Text is UTF-8 all the same; for names of files set LC_ALL=C.UTF-8."
        value = f"the locale's is {coding}"
        yield Finding(area="terminal", what="encoding", value=value, level="note", fix=fix)


def _kind(descriptor: int) -> str:
    try:
        return "terminal" if os.isatty(descriptor) else "file or pipe"
    except OSError:
        return "closed"
