"""The checksum that `gptcli models convert` leaves beside weights, and whether they still fit it.

The note is as sha256sum writes it. A model that is opened is compared with it where that takes no
time: the file is read again only if it was touched since it was last found right. What the disk
itself got wrong leaves no trace in the time of change; `gptcli models verify` reads everything.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gptcli.checkpoints.integrity import digests
from gptcli.checkpoints.safetensors_headers import NOTE, SINGLE
from gptcli.errors import GptcliError
from gptcli.system import durable
from gptcli.system.checksums import CHECKSUM, algorithm_of
from gptcli.system.strict_json import read_object

RECORD = "conversion.json"  # what was made of what
MAX_NOTE_BYTES = 200
MAX_RECORD_BYTES = 2**26  # it names every tensor


def write_note(folder: Path) -> None:
    """Note the checksum of the weights in a folder. Raises OSError; MissingInput, BadModel."""
    digest = digests.digest(folder / SINGLE)
    durable.save(folder / NOTE, f"{digest}  {SINGLE}\n".encode())


def noted(folder: Path) -> str | None:
    """The SHA-256 that was noted of the weights in a folder; None without a note."""
    with suppress(OSError, ValueError):
        data = durable.read_small(folder / NOTE, MAX_NOTE_BYTES) or b""
        digest, _, name = data.decode("ascii").strip().partition("  ")
        if name == SINGLE and CHECKSUM.fullmatch(digest) and algorithm_of(digest) == "sha256":
            return digest
    return None


def made(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that a conversion made, by name, as its record and note say."""
    found: dict[str, str] = {}
    with suppress(GptcliError):
        listed = read_object(folder / RECORD, MAX_RECORD_BYTES).get("made")
        for name, digest in listed.items() if isinstance(listed, dict) else ():
            if isinstance(digest, str) and len(digest) == 64 and CHECKSUM.fullmatch(digest):
                found[name] = digest
    if digest := noted(folder):
        found[SINGLE] = digest
    return found


def notices(folder: Path) -> tuple[str, ...]:
    """What a user should know who opens the model in a folder: that its weights were changed."""
    expected = noted(folder)
    weights = folder / SINGLE
    if expected is None or not digests.can_keep(weights):
        return ()
    with suppress(GptcliError):  # who opens the model says what is wrong
        if digests.digest(weights) != expected:
            return (
                f"{SINGLE} is not what gptcli models convert made: it is damaged, or was changed;"
                f" if you changed it, remove {NOTE}",
            )
    return ()
