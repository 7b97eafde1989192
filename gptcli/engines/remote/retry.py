"""Failures of a server: when to try again, and the error to show.

Only failures that may pass are tried again: a server that starts, restarts or is busy, a connection
that broke. `Patience` bounds the number of tries and their time. Messages quote the server,
shortened, without the key.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import TypeVar

import httpx2
import openai

from gptcli.engines.remote.client import KEYS, NO_KEY, Endpoint, Patience
from gptcli.errors import BadInput, GptcliError, Unavailable

T = TypeVar("T")
RETRY_STATUSES = {408, 409, 429}  # and 5xx, except 501
REQUEST_STATUSES = {400, 413, 422}  # the request itself is refused
RUN_STATUSES = {401, 403, 404}  # every request would be told so
MAX_MESSAGE_CHARACTERS = 300  # of the server's own words


class CutOff(Exception):
    """An answer ended before its end."""


FAILURES = (openai.APIError, httpx2.HTTPError, CutOff, ValueError, RecursionError)
"""What a call can raise; the last two for JSON that is none."""


async def patiently(
    call: Callable[[], Awaitable[T]], patience: Patience, last: Callable[[], bool] = lambda: False
) -> T:
    """Try until it works, it cannot work, `patience` ends, or `last` says to leave it."""
    begun, number = monotonic(), 0
    while True:
        number += 1
        try:
            return await call()
        except FAILURES as error:
            wait = pause(error, number, patience)
            if last() or wait is None or monotonic() - begun + wait > patience.total:
                raise
        await asyncio.sleep(wait)


def pause(error: BaseException, tried: int, patience: Patience) -> float | None:
    """Seconds to wait before the next try, None where there should be none.

    Doubling, with jitter so that many clients do not come back at once; or what Retry-After says.
    """
    if tried >= patience.tries or not _passing(error):
        return None
    if isinstance(error, openai.APIStatusError):
        asked = _retry_after(error.response.headers.get("retry-after", ""))
        if asked is not None:
            return min(asked, patience.longest)
    return min(patience.first * 2.0 ** (tried - 1), patience.longest) * random.uniform(0.5, 1)


def _passing(error: BaseException) -> bool:
    """Whether it may work the next time."""
    if isinstance(error, openai.APIError) and (code := _status(error)):
        return code in RETRY_STATUSES or (code >= 500 and code != 501)
    return isinstance(error, openai.APIConnectionError | httpx2.HTTPError | CutOff)


def _status(error: openai.APIError) -> int:
    """The HTTP status, also where the error came inside a stream; 0 where there is none."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code
    code = error.code or ""
    return int(code) if code.isdecimal() else 0


def _retry_after(value: str) -> float | None:
    """Seconds from now, of a header that gives seconds or a date."""
    with suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if seconds < float("inf") else None
    with suppress(ValueError):
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max((date - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def ends_run(error: BaseException) -> bool:
    """Whether every other request would fail like this one."""
    return isinstance(error, openai.APIStatusError) and error.status_code in RUN_STATUSES


def failure(error: BaseException, to: Endpoint, names: tuple[str, ...] = ()) -> GptcliError:
    """What went wrong, in the user's words; `names` are the models that the server has."""
    what, later = f"--server {to.url}", "Try again later"
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return Unavailable(what, "it does not answer", "Check that it runs; a smaller -b asks less")
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
        why = f"no connection ({_cause(error)})"
        return Unavailable(what, why, "Check that the server runs, and host and port")
    if isinstance(error, CutOff):
        return Unavailable(what, "its answer broke off", later)
    if not isinstance(error, openai.APIError):
        why = f"this is no answer of an OpenAI-compatible server: {_clipped(str(error), to)}"
        return Unavailable(what, why, "Check the address; most end in /v1")
    return _refused(error, _status(error), what, to, names)


def _refused(
    error: openai.APIError, code: int, what: str, to: Endpoint, names: tuple[str, ...]
) -> GptcliError:
    said = _said(error, to)
    if code in REQUEST_STATUSES:
        return BadInput(what, f"it refuses the request{said}", "Change what it names")
    if code in (401, 403):
        return Unavailable(what, f"it refuses the key{said}", f"Set {KEYS[0]} to a key of it")
    if code == 404:
        there = (
            f"-m takes one of: {', '.join(names[:10])}" if names else "Most addresses end in /v1"
        )
        return Unavailable(what, f"it knows no such model or path{said}", there)
    if 300 <= code < 400 and isinstance(error, openai.APIStatusError):
        place = _clipped(error.response.headers.get("location", "another place"), to)
        return Unavailable(
            what, f"it redirects to {place}", "Give the address that it redirects to"
        )
    if code == 429:
        return Unavailable(what, f"it is too busy{said}", "Try later, or with a smaller -b")
    status = f"status {code}" if code else "an error"
    return Unavailable(what, f"it answers with {status}{said}", "Try again later")


def _said(error: openai.APIError, to: Endpoint) -> str:
    """The server's own words, without the page that a proxy makes of them."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or ""
    text = _clipped(str(body or ""), to)
    return f": {text}" if text and not text.startswith("<") else ""


def _cause(error: BaseException) -> str:
    """The innermost reason: `connection refused`, not `connection error`."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    why = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno and error.strerror:
        # asyncio puts words of its own in place of the system's; negative: no name resolved.
        why = os.strerror(error.errno) if error.errno > 0 else error.strerror
    return " ".join(why.split())[:MAX_MESSAGE_CHARACTERS].lower()


def _clipped(text: str, to: Endpoint) -> str:
    """One short line, without the key."""
    if to.key != NO_KEY:
        text = text.replace(to.key, "***")
    text = " ".join(text.split()).rstrip(".")
    return (
        text[: MAX_MESSAGE_CHARACTERS - 3] + "..." if len(text) > MAX_MESSAGE_CHARACTERS else text
    )
