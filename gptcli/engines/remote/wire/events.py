"""Server-sent events as the HTML standard reads them (9.2.6), of which the data alone matter.

Events without data are passed over: pings, retry times, ids. So is an event that breaks off.
"""

from __future__ import annotations

from collections.abc import Iterator

MARK = b"\xef\xbb\xbf"  # a byte order mark, which may stand before the first line


class EventReader:
    """Reads a stream part by part, wherever it was cut."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[str] = []
        self._after_return = False  # so that a line feed ends no other line
        self._begun = False

    def feed(self, part: bytes) -> Iterator[str]:
        """The data of each event that ends in this part. Raises ValueError for bytes not UTF-8."""
        if part:
            part, self._after_return = (
                part.removeprefix(b"\n") if self._after_return else part,
                part.endswith(b"\r"),
            )
        for line in part.splitlines(keepends=True):
            self._line += line
            if line.endswith((b"\n", b"\r")):
                yield from self._take(bytes(self._line).rstrip(b"\r\n"))
                self._line.clear()

    def _take(self, line: bytes) -> Iterator[str]:
        """Take a whole line; gives what an empty one ends."""
        if not self._begun:
            self._begun, line = True, line.removeprefix(MARK)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8"))
        elif not line and self._data:
            data, self._data = "\n".join(self._data), []
            if data.strip():
                yield data
