"""Download a model from the Hugging Face Hub into its cache, or say in one line why not.

huggingface_hub does the transfer, the locking and the layout of the cache. Around it stands what it
lacks for a command line: one question to the Hub, bounded in time including name resolution, before
anything else; only files that a model needs and that cannot run code; no talk on stderr; and each
of its many exceptions turned into an error with the next step. A file that is complete stays in the
cache when a download fails, and a branch names the new commit only once all of its files are there.
What is in the cache already is for `gptcli.checkpoints`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from gptcli.errors import BadModel, CannotCreate, GptcliError, Unavailable, WriteFailed
from gptcli.headers import CONVERT, INDEX, SINGLE
from gptcli.names import COMMIT, GPT2, did_you_mean
from gptcli.vocabulary import SUFFICIENT

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

REACH_SECONDS = 3.0  # for the first answer of the Hub, name resolution included
SMALL_FILES = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
}
SHARD = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")  # as save_pretrained names them
AGAIN = "Run the command again: files that are complete are kept"
LOGIN = "run: hf auth login"

T = TypeVar("T")


def download(repo_id: str, revision: str, progress: Callable[[], None] | None) -> tuple[Path, str]:
    """Fetch a model's files into the Hugging Face cache: its snapshot folder and its commit.

    With `progress` there are bars on stderr; it is called just before the first. HF_ENDPOINT,
    HF_TOKEN and HF_HUB_CACHE are honoured.

    Raises Unavailable (Hub not reachable within 3 s, no such model or revision, no access, transfer
    failed), BadModel (no safetensors, tokenizer or config.json: nothing is downloaded),
    CannotCreate and WriteFailed (the cache cannot be written, disk full).
    """
    from huggingface_hub import constants, snapshot_download

    endpoint, cache = constants.ENDPOINT, Path(constants.HF_HUB_CACHE)
    storage = cache / f"models--{repo_id.replace('/', '--')}"
    with _silence(progress is not None):
        commit, names = _ask(repo_id, revision)
        files = choose_files(names, repo_id)
        if progress:
            progress()
        try:
            with _without_leftovers(storage / "blobs"):
                folder = _in_thread(
                    lambda: snapshot_download(
                        repo_id,
                        revision=commit,
                        allow_patterns=files,
                        endpoint=endpoint,
                        cache_dir=cache,
                    )
                )
        except Exception as error:
            raise _explain(error, repo_id, revision, "the download failed") from error
    _name_commit(storage / "refs" / revision, commit)
    return Path(folder), commit


def reach() -> str:
    """Ask the Hub about gpt2; its newest commit. Raises Unavailable, within 3 s."""
    with _silence(progress=False):
        return _ask(GPT2, "main")[0]


def _ask(repo_id: str, revision: str) -> tuple[str, set[str]]:
    """A model's commit and the names of its files. Raises Unavailable."""
    from huggingface_hub import HfApi, constants

    endpoint = constants.ENDPOINT
    try:
        info = _in_thread(
            lambda: HfApi(endpoint=endpoint).model_info(
                repo_id, revision=revision, timeout=REACH_SECONDS
            ),
            REACH_SECONDS,
        )
    except Exception as error:
        raise _explain(error, repo_id, revision, f"cannot reach the Hub at {endpoint}") from error
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit):
        raise Unavailable(repo_id, f"{endpoint} does not answer as a Hub", "Check HF_ENDPOINT")
    return commit, {item.rfilename for item in info.siblings or ()}


def choose_files(names: set[str], repo_id: str) -> list[str]:
    """Of a repository's files, those that are needed and safe.

    Raises BadModel where there is no configuration, no tokenizer, or no safetensors: the weights
    are then a pickle, which can run code when it is read.
    """
    chosen = names & SMALL_FILES
    if "config.json" not in names:
        raise BadModel(repo_id, "no config.json: not a transformers model", _other(repo_id))
    if SINGLE in names:
        chosen.add(SINGLE)
    elif INDEX in names:
        chosen |= {INDEX, *filter(SHARD.fullmatch, names)}
    else:
        raise BadModel(
            repo_id, f"no {SINGLE} in the repository, so nothing was downloaded", CONVERT
        )
    if not any(files <= names for files in SUFFICIENT):
        raise BadModel(repo_id, "no tokenizer.json, nor vocab.json and merges.txt", _other(repo_id))
    return sorted(chosen)


def _other(repo_id: str) -> str:
    return did_you_mean(repo_id) or "Choose another model with -m, for example -m gpt2"


def _in_thread(call: Callable[[], T], seconds: float | None = None) -> T:
    """Run a call in a thread that does not keep the process alive, and wait for it.

    Name resolution cannot be interrupted, and huggingface_hub waits for its own threads: this way a
    bound holds, and Ctrl-C works at once. Raises TimeoutError after `seconds`.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


@contextmanager
def _silence(progress: bool) -> Iterator[None]:
    """Keep huggingface_hub's loggers, warnings and (without `progress`) bars off stderr."""
    import logging
    import warnings

    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, had_bars = logger.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        if not progress:
            disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if had_bars:
                enable_progress_bars()


@contextmanager
def _without_leftovers(blobs: Path) -> Iterator[None]:
    """Delete partial files when a download is interrupted: no later run could use them."""
    before = set(blobs.glob("*.incomplete"))
    try:
        yield
    except BaseException:
        for file in set(blobs.glob("*.incomplete")) - before:
            file.unlink(missing_ok=True)
        raise


def _name_commit(ref: Path, commit: str) -> None:
    """Record which commit a branch or tag means, as huggingface_hub does."""
    if ref.name == commit:
        return
    with suppress(OSError):  # the model is here; only the next run has to ask the Hub again
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.{os.getpid()}.new")
        new.write_text(commit, encoding="ascii")
        new.replace(ref)


def _explain(error: Exception, repo_id: str, revision: str, failed: str) -> GptcliError:
    """The error of ours that says what huggingface_hub's error means."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explain(error.__cause__, repo_id, revision, failed)
    if isinstance(error, errors.GatedRepoError):
        return Unavailable(repo_id, "gated: its owner grants access", f"Ask there, then {LOGIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        why = f"no revision {revision!r} on the Hub"
        return Unavailable(repo_id, why, "Give a branch, tag or commit, or leave out --revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return _unknown(repo_id)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, repo_id)
    return _explain_local(error, repo_id, failed)


def _unknown(repo_id: str) -> Unavailable:
    hint = did_you_mean(repo_id) or f"Check the name; for a private model {LOGIN}"
    return Unavailable(repo_id, "no such model on the Hub", hint)


def _explain_status(error: HfHubHTTPError, repo_id: str) -> Unavailable:
    status = error.response.status_code
    if status == 404:
        return _unknown(repo_id)
    if status in (401, 403):
        return Unavailable(repo_id, f"the Hub refuses access ({status})", f"To log in, {LOGIN}")
    if status == 429:
        return Unavailable(
            repo_id,
            "the Hub limits requests (429)",
            f"Wait some minutes; for a higher limit {LOGIN}",
        )
    return Unavailable(repo_id, f"the Hub answers with an error ({status})", "Try again later")


def _explain_local(error: Exception, repo_id: str, failed: str) -> GptcliError:
    number = error.errno if isinstance(error, OSError) else None
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WriteFailed(repo_id, reason, "Make room, or set HF_HUB_CACHE to another disk")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CannotCreate(repo_id, reason, "Set HF_HUB_CACHE to a folder that can be written")
    return Unavailable(repo_id, f"{failed} ({reason})", AGAIN)
