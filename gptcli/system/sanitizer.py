"""Make text harmless for a terminal: show control characters, never send them.

A model or a prompt file can contain escape sequences that move the cursor, set the title or fill
the clipboard. Each dangerous code point is replaced by printable ASCII by itself, without looking
at its neighbours. So a stream can be cut anywhere, and nothing is held back. Look-alike letters are
not replaced.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f"  # C0 but TAB and LF
    "\x7f-\x9f"  # DEL and C1: some terminals take U+009B for ESC [
    "\u2028\u2029"  # line and paragraph separator
    "\u202a-\u202e\u2066-\u2069"  # bidirectional overrides and isolates: text shown out of order
    "\ud800-\udfff"  # surrogates: not encodable
    "\U000e0000-\U000e007f"  # tags: invisible text
    "]"
)


def sanitize(text: str) -> str:
    r"""Show the control characters of `text`: ESC as `^[`, DEL as `^?`, U+009B as `\x9b`.

    Others become `\u202e`. TAB, LF and all printable text are kept, and so is the joiner U+200D
    that emoji need. Idempotent; `sanitize(a) + sanitize(b) == sanitize(a + b)`; the result has at
    most 8 times as many characters.
    """
    return _UNSAFE.sub(_shown, text)


def one_line(text: str) -> str:
    """As `sanitize`, with line breaks shown too: for messages that must stay on one line."""
    return sanitize(text).replace("\n", "^J")


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
