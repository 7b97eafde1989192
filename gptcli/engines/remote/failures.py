"""Failures of a server: what can be raised, and the error to show.

Messages quote the server, shortened, without the key. Not here: what is tried again is in `retry`.
"""

from __future__ import annotations

import os
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2

from gptcli.engines.remote.bounds import AnswerStalled, BoundPassed
from gptcli.engines.remote.client import KEYS, Endpoint
from gptcli.engines.remote.wire import ServerError, StatusError
from gptcli.errors import BadInput, GptcliError, Unavailable
from gptcli.system.units import seconds

REQUEST_STATUSES = {400, 413, 422}  # the request itself is refused
RUN_STATUSES = {401, 403, 404}  # every request would be told so
UNTRUSTED = "SSL_CERT_FILE names a file of certificates to trust in place of the system's"
MAX_MESSAGE_CHARACTERS = 300  # of the server's own words
MAX_READ_CHARACTERS = 10_000  # of them; megabytes of words take gigabytes
MIN_MASKED_CHARACTERS = 8  # shorter keys are placeholders such as x, none or EMPTY


class CutOff(Exception):
    """An answer ended before its end."""


FAILURES = (ServerError, httpx2.HTTPError, BoundPassed, CutOff, ValueError, RecursionError)
"""What a call can raise; the last two for JSON that is none."""
Cause = TypeVar("Cause", bound=BaseException)


def cause_of(error: BaseException | None, kind: type[Cause]) -> Cause | None:
    """The error of this kind that another one wraps, or the error itself."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def status_of(error: BaseException) -> int:
    """The HTTP status, also where the error came inside a stream; 0 where there is none."""
    return error.status if isinstance(error, ServerError) else 0


def is_unreachable(error: BaseException) -> bool:
    """Whether no answer came at all, and none will: nothing listens there, or no name resolves."""
    late = isinstance(error, httpx2.TimeoutException)
    lost = isinstance(error, httpx2.HTTPError) and not late
    return lost and cause_of(error, BoundPassed) is None


def asked_pause(error: BaseException) -> float | None:
    """The seconds that the server asks to wait, of `retry-after-ms` or `Retry-After`."""
    if not isinstance(error, StatusError):
        return None
    headers = error.headers
    milliseconds = _retry_after(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    return _retry_after(headers.get("retry-after", ""))


def _retry_after(value: str) -> float | None:
    """Seconds from now, of a header that gives seconds or a date."""
    with suppress(ValueError):
        found = float(value)
        return max(found, 0.0) if found < float("inf") else None
    with suppress(ValueError, OverflowError):
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max((date - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def ends_run(error: BaseException) -> bool:
    """Whether every other request would fail like this one."""
    return isinstance(error, StatusError) and error.status in RUN_STATUSES


def failure(error: BaseException, to: Endpoint, names: tuple[str, ...] = ()) -> GptcliError:
    """What went wrong, in the user's words; `names` are the models that the server has."""
    what = f"--server {to.url}"
    if passed := cause_of(error, BoundPassed):
        why = f"its answer passes a bound: {passed}"
        return Unavailable(what, why, "Check what runs there: gptcli docs remote has the bounds")
    if isinstance(error, httpx2.TimeoutException):
        stalled = cause_of(error, AnswerStalled)
        why = f"it does not answer: {stalled}" if stalled else "it does not answer"
        hint = (
            "Check that it runs; --concurrency 1 asks less at once, --server-timeout waits longer"
        )
        return Unavailable(what, why, hint)
    if isinstance(error, httpx2.HTTPError):
        inner = _innermost(error)
        why = f"no connection ({_reason(inner)})"
        untrusted = isinstance(inner, ssl.SSLCertVerificationError)
        hint = UNTRUSTED if untrusted else "Check that the server runs, and host and port"
        return Unavailable(what, why, hint)
    if isinstance(error, CutOff):
        return Unavailable(what, "its answer broke off", "Try again, with --concurrency 1")
    if not isinstance(error, ServerError):
        why = f"this is no answer of an OpenAI-compatible server: {_clipped(str(error), to)}"
        return Unavailable(what, why, "Check the address; most end in /v1")
    return _refused(error, status_of(error), what, to, names)


def _refused(
    error: ServerError, code: int, what: str, to: Endpoint, names: tuple[str, ...]
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
    if 300 <= code < 400 and isinstance(error, StatusError):
        place = _clipped(error.headers.get("location", "another place"), to)
        return Unavailable(
            what, f"it redirects to {place}", "Give the address that it redirects to"
        )
    if code == 429:
        asked = asked_pause(error)
        wait = "" if asked is None else f" and asks to wait {seconds(asked)}"
        return Unavailable(
            what, f"it is too busy{wait}{said}", "Try later, or with --concurrency 1"
        )
    status = f"status {code}" if code else "an error"
    return Unavailable(what, f"it answers with {status}{said}", "Try again later")


def _said(error: ServerError, to: Endpoint) -> str:
    """The server's own words, without the page that a proxy makes of them."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or ""
    try:
        text = _clipped(str(body or ""), to)
    except RecursionError:
        return ""
    return f": {text}" if text and not text.startswith("<") else ""


def _innermost(error: BaseException) -> BaseException:
    """The reason of all others: `connection refused`, not `connection error`."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def _reason(error: BaseException) -> str:
    """The words of an innermost reason."""
    why = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLError):  # whose number is not one of the system's
        said = getattr(error, "verify_message", "") or (error.reason or why).replace("_", " ")
        why = f"TLS: {said}"
    elif isinstance(error, OSError) and error.errno and error.strerror:
        # asyncio puts words of its own in place of the system's; negative: no name resolved.
        why = os.strerror(error.errno) if error.errno > 0 else error.strerror
    return " ".join(why.split())[:MAX_MESSAGE_CHARACTERS].lower().replace("tls:", "TLS:", 1)


def _clipped(text: str, to: Endpoint) -> str:
    """One short line, without the key where it stands as a word of its own."""
    if len(text) > MAX_READ_CHARACTERS:  # a part of the last word could be a part of the key
        text = text[:MAX_READ_CHARACTERS].rsplit(maxsplit=1)[0]
    if len(to.key) >= MIN_MASKED_CHARACTERS:
        text = re.sub(rf"(?<!\w){re.escape(to.key)}(?!\w)", "***", text)
    text = " ".join(text.split()).rstrip(".")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        return text[: MAX_MESSAGE_CHARACTERS - 3] + "..."
    return text
