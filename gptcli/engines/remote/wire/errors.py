"""Errors that a server answers with: a status of HTTP, or an object inside a stream.

Their messages quote nothing of the server, which may quote the key: `failures` shortens and masks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping


class ServerError(Exception):
    """An answer that is an error. `body` is its error object, or what stands in its place."""

    def __init__(self, what: str, body: object) -> None:
        super().__init__(what)
        self.body = body

    @property
    def status(self) -> int:
        """The HTTP status, or the number that stands in its place; 0 where there is none."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        number = str(code)[:4] if isinstance(code, int | str) else ""
        return int(number) if re.fullmatch("[1-9][0-9]{2}", number) else 0


class StreamedError(ServerError):
    """An error inside a stream that began well."""

    def __init__(self, body: object) -> None:
        super().__init__("an error in the stream", body)


class StatusError(ServerError):
    """A status that is no success; the names of `headers` are in small letters."""

    def __init__(self, status: int, headers: Mapping[str, str], body: object) -> None:
        super().__init__(f"status {status}", body)
        self._status, self.headers = status, headers

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status


def status_error(status: int, headers: Mapping[str, str], data: bytes) -> StatusError:
    """The error of an answer with these bytes: JSON with an error object or without, or a page."""
    text = data.decode("utf-8", "replace").strip()
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = text
    if isinstance(body, dict):
        body = body.get("error", body)
    return StatusError(status, headers, body)
