"""The files that our pages share: `base.css`, with every colour of theirs, and `elements.js`."""

from __future__ import annotations

from pathlib import Path

STYLE = "base.css"
ELEMENTS = "elements.js"


def shared(name: str) -> str:
    """The text of a file of this room."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
