"""Receive one file over HTTP, going on where an earlier run stopped.

huggingface_hub's own transfer begins a file anew in every run and holds back 10 MB, which are lost
when it is cut off; its session, headers and time limits are used here, its loop is not. The file is
not trusted, only its length is brought to what it should be: what came is checked by its checksum,
see `gptcli.checkpoints.hub.blobs`. The token goes to the Hub alone: a redirect to another host,
scheme or port loses it. Large files come by plain HTTP also where hf_xet is installed, whose
transfers can neither be gone on with nor bounded.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from gptcli.checkpoints.hub.watch import MIN_BYTES, Watch
from gptcli.system import durable

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

MAX_FUTILE_TRIES = 5  # in a row that bring next to nothing
PAUSE_SECONDS = 1.0  # seconds after the first of them, then twice as long each time
MAX_WAIT_SECONDS = 30.0  # seconds that a server may ask for before the next try
TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}  # statuses that may be others a moment later
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Cut(Exception):
    """The server ends the file early, or sends another piece than was asked for."""


def fetch(url: str, part: Path, size: int, watch: Watch, token: bool | None = None) -> None:
    """Bring `part` to `size` bytes; what it holds already is kept. `token` is that of
    `gptcli.checkpoints.hub.access.token_for`.

    An answer that breaks off is gone on with as long as each brings something. Raises
    HfHubHTTPError for an error status, another HTTPError where the server cannot be reached or
    breaks off, Cut, Stopped, OSError where the file cannot be written.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    _begin(part)
    failed, furthest = 0, part.stat().st_size
    while (have := part.stat().st_size) < size:
        try:
            _receive(url, part, have, size, watch, token)
            failure: Exception = Cut(f"it ends after {part.stat().st_size} of {size} bytes")
        except (HTTPError, Cut) as error:
            failure = error
        have = part.stat().st_size
        if have == size:
            return
        if have - furthest >= MIN_BYTES:  # a server without ranges may go the same way for ever
            failed, furthest = 0, have
        else:
            failed += 1
        wait = _wait(failure, failed)
        if wait is None:
            raise failure
        watch.pause(wait)


def _begin(part: Path) -> None:
    """Make the file if it is not there; what someone else laid in its place is removed.

    Its name can be foreseen, and a cache may be shared: nothing is written through a link.
    """
    with suppress(FileNotFoundError):
        found = part.lstat()
        if not S_ISREG(found.st_mode) or found.st_nlink > 1:
            part.unlink()
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | durable.OWN, 0o666))


def _receive(url: str, part: Path, have: int, size: int, watch: Watch, token: bool | None) -> None:
    """Append one answer to `part`, or write it anew where the server sends all."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {**build_hf_headers(token=token), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    session = get_session()
    with session.stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code == 416:
            raise Cut(f"the Hub lists {size} bytes and has fewer")
        if response.status_code >= 400:
            response.close()  # what it says is not needed, and may have no end
        hf_raise_for_status(response)
        with os.fdopen(os.open(part, os.O_RDWR | durable.OWN), "r+b") as file:
            if not _goes_on(response.status_code, response.headers.get("Content-Range"), have):
                file.truncate(0)
                watch.undo(have)
                have = 0
                if response.status_code == 206:
                    raise Cut("another piece of it came than was asked for")
            file.seek(have)
            for chunk in response.iter_bytes():
                wanted = chunk[: size - have]
                if not wanted:  # more than there should be; the checksum judges
                    return
                file.write(wanted)
                file.flush()  # a killed run keeps it
                have += len(wanted)
                watch.add(len(wanted))


def _goes_on(status: int, range_: str | None, have: int) -> bool:
    """Whether an answer begins where the file ends."""
    if status != 206:
        return have == 0
    match = RANGE.fullmatch(range_ or "")
    return match is not None and int(match[1]) == have


def _wait(failure: Exception, failed: int) -> float | None:
    """Seconds to wait before the next try; None: there is none."""
    from huggingface_hub.errors import HfHubHTTPError

    longest = PAUSE_SECONDS * 2 ** (failed - 1) if failed else 0.0
    if isinstance(failure, HfHubHTTPError):
        asked = retry_after(failure)
        if (
            failure.response.status_code not in TRANSIENT_STATUSES
            or (asked or 0) > MAX_WAIT_SECONDS
        ):
            return None
        longest = max(longest, asked or 0)
    return None if failed >= MAX_FUTILE_TRIES else longest


def retry_after(error: HfHubHTTPError) -> int | None:
    """The seconds that an answer asks to wait, where it asks so."""
    asked = str(error.response.headers.get("Retry-After", "")).strip()
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else None
