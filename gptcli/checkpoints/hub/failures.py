"""What huggingface_hub's many exceptions mean: an error of ours, with the next step."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from gptcli.checkpoints.hub.access import way_in
from gptcli.checkpoints.hub.transfer import retry_after
from gptcli.checkpoints.names import did_you_mean
from gptcli.errors import CannotCreate, GptcliError, Unavailable, WriteFailed
from gptcli.system.os_errors import reason

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

AGAIN = "Run the command again: it goes on where it stopped"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def explain(error: Exception, repo_id: str, revision: str, file: str = "") -> GptcliError:
    """The error of ours for a question, or for the transfer of a file.

    An error of ours comes back as it is.
    """
    from huggingface_hub import errors

    if isinstance(error, GptcliError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return Unavailable(
            repo_id, "gated: its owner grants access", f"Ask there, then {way_in(repo_id)}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        why = f"no revision {revision!r} on the Hub"
        return Unavailable(repo_id, why, "Give a branch, tag or commit, or leave out --revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return _unknown(repo_id)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, repo_id, file)
    return _explain_local(error, repo_id, file)


def _unknown(repo_id: str) -> Unavailable:
    hint = did_you_mean(repo_id) or f"Check the name; for a private model {way_in(repo_id)}"
    return Unavailable(repo_id, "no such model on the Hub", hint)


def _explain_status(error: HfHubHTTPError, repo_id: str, file: str) -> Unavailable:
    status = error.response.status_code
    if status == 404 and file:
        return Unavailable(repo_id, f"the Hub lists {file} but has it not", "Try again later")
    if status == 404:
        return _unknown(repo_id)
    if status in (401, 403):
        return Unavailable(
            repo_id, f"the Hub refuses access ({status})", f"To log in, {way_in(repo_id)}"
        )
    if status == 429:
        seconds = retry_after(error)
        wait = "some minutes" if seconds is None else f"{seconds} s"
        hint = f"Wait {wait}; for a higher limit {way_in(repo_id)}"
        return Unavailable(repo_id, "the Hub limits requests (429)", hint)
    return Unavailable(repo_id, f"the Hub answers with an error ({status})", "Try again later")


def _explain_local(error: Exception, repo_id: str, file: str) -> GptcliError:
    network = isinstance(error, ConnectionError | TimeoutError)
    if isinstance(error, OSError) and error.errno is not None and not network:
        return _explain_disk(error, repo_id)
    from huggingface_hub import constants

    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if file:
        return Unavailable(repo_id, f"the download of {file} failed ({said})", AGAIN)
    why = f"cannot reach the Hub at {constants.ENDPOINT} ({said})"
    return Unavailable(repo_id, why, "Check the connection, and try again")


def _explain_disk(error: OSError, repo_id: str) -> GptcliError:
    why = f"{error.filename}: {reason(error)}" if error.filename else reason(error)
    if error.errno in FULL:
        return WriteFailed(repo_id, why, "Make room, or set HF_HUB_CACHE to another disk")
    return CannotCreate(repo_id, why, "Set HF_HUB_CACHE to a folder that can be written")
