"""What the operating system says when it refuses, as part of an error message of ours.

The system's own text is short and names the cause; `str(error)` adds a number and a file name that
our message has already.
"""

from __future__ import annotations


def said(error: OSError) -> str:
    """What the system says, with its capital letter: `No space left on device`."""
    return error.strerror or str(error)


def reason(error: OSError) -> str:
    """The same as part of a sentence: `no space left on device`."""
    return said(error).lower()
