"""The operating system's reason for an error, as part of a message of ours.

The system's text is short and names the cause. `str(error)` would add a number and a file name that
our message already has.
"""

from __future__ import annotations


def said(error: OSError) -> str:
    """The system's text with its capital letter: `No space left on device`."""
    return error.strerror or str(error)


def reason(error: OSError) -> str:
    """The same as part of a sentence: `no space left on device`."""
    return said(error).lower()
