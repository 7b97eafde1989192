"""Download a model from the Hugging Face Hub into its cache, or say in one line why not.

huggingface_hub knows the Hub's addresses, tokens and errors, and the layout and the locks of the
cache. Around it stands what it lacks for a command line: one question to the Hub, bounded in time,
before anything else; only files that a model needs and that cannot run code; transfers that go on
where an earlier run stopped; a checksum for every file before it has a name that counts; no talk on
stderr. A branch names the new commit only once all of its files are there. What is in the cache
already is for `gptcli.checkpoints.resolve`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.hf_cache import storage
from gptcli.checkpoints.hub.access import token_for
from gptcli.checkpoints.hub.blobs import HubFile, Store
from gptcli.checkpoints.hub.failures import AGAIN, explain
from gptcli.checkpoints.hub.offer import ask
from gptcli.checkpoints.hub.watch import Stalled, Watch, watched
from gptcli.checkpoints.names import GPT2, known_ids
from gptcli.errors import BadModel, Unavailable, WriteFailed
from gptcli.system.units import transfer_size


@dataclass(frozen=True, kw_only=True)
class Download:
    """A model that is complete in the cache now."""

    repo_id: str
    folder: Path  # the snapshot
    revision: str  # the commit, 40 hexadecimal digits
    files: tuple[str, ...]
    fetched: int  # bytes that came over the network for it; 0: it was there

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "name": self.repo_id,
            "revision": self.revision,
            "folder": str(self.folder),
            "files": list(self.files),
            "bytes_fetched": self.fetched,
        }


def download(repo_id: str, revision: str, progress: Callable[[], None] | None) -> Download:
    """Make a model complete in the Hugging Face cache, as the Hub has it now.

    With `progress` there is a bar on stderr; it is called just before that. HF_ENDPOINT, HF_TOKEN
    and HF_HUB_CACHE are honoured. Every file that is fetched, and every file beside it, is checked
    by its checksum; a snapshot that lacks nothing is only compared by size.

    Raises Unavailable (Hub not reachable within 3 s, no such model or revision, no access, transfer
    failed, less than 64 KiB came in a minute, a file arrived damaged twice), BadModel (no
    safetensors, tokenizer or config.json: nothing is downloaded), CannotCreate and WriteFailed (the
    cache cannot be written, too little room).
    """
    with _silence():
        offer = ask(repo_id, revision)
        store = Store(_folder(repo_id, offer.commit), offer.commit, token_for(repo_id))
        fetched = 0
        if not all(map(store.here, offer.files)):
            _check_room(store, offer.files, repo_id)
            with _bar(store, offer.files, repo_id, progress) as show:
                watch = Watch(show)
                try:
                    watched(watch, lambda: _complete(store, offer.files, repo_id, revision, watch))
                except Stalled as error:
                    raise Unavailable(repo_id, f"the download stalled ({error})", AGAIN) from error
            fetched = watch.came
            store.sweep()
        store.name(revision)
    names = tuple(file.name for file in offer.files)
    return Download(
        repo_id=repo_id,
        folder=store.snapshot,
        revision=offer.commit,
        files=names,
        fetched=fetched,
    )


def reach() -> None:
    """Ask the Hub about gpt2. Raises Unavailable, within 3 s."""
    with _silence(), suppress(BadModel):  # whatever it has, it answered
        ask(GPT2, "main")


def _folder(repo_id: str, commit: str) -> Path:
    """The model's folder in the cache; that of its old id where only this one has the commit."""
    new, *old = map(storage, known_ids(repo_id))
    has = [folder for folder in old if (folder / "snapshots" / commit).is_dir()]
    return has[0] if has and not new.exists() else new


def _complete(
    store: Store, files: tuple[HubFile, ...], repo_id: str, revision: str, watch: Watch
) -> None:
    """Fetch what is lacking, then link it all; config.json last, so that the rest is there."""
    from huggingface_hub import constants, hf_hub_url

    contents: list[tuple[HubFile, Path]] = []
    for file in files:
        url = hf_hub_url(repo_id, file.name, revision=store.commit, endpoint=constants.ENDPOINT)
        try:
            contents.append((file, store.obtain(file, url, watch)))
        except Exception as error:
            raise explain(error, repo_id, revision, file.name) from error
    for file, content in reversed(contents):
        try:
            store.link(file, content)
        except OSError as error:
            raise explain(error, repo_id, revision, file.name) from error


def _check_room(store: Store, files: tuple[HubFile, ...], repo_id: str) -> None:
    """Raises WriteFailed where the disk has too little room for what is lacking."""
    needed = sum(map(store.lacking, files))
    place = next(folder for folder in (store.folder, *store.folder.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        more, there, lacking = map(transfer_size, (needed, free, needed - free))
        why = f"it takes {more} more on the disk, and {there} are free"
        hint = f"Make room for {lacking}, or set HF_HUB_CACHE to another disk"
        raise WriteFailed(repo_id, why, hint)


@contextmanager
def _bar(
    store: Store, files: tuple[HubFile, ...], repo_id: str, progress: Callable[[], None] | None
) -> Iterator[Callable[[int], object]]:
    """A bar of bytes on stderr; gives what moves it."""
    if progress is None:
        yield lambda change: None
        return
    from huggingface_hub.utils.tqdm import tqdm

    progress()
    total = sum(file.size for file in files)
    there = total - sum(map(store.lacking, files))
    with tqdm(  # type: ignore[no-untyped-call]
        desc=repo_id, total=total, initial=there, unit="B", unit_scale=True
    ) as bar:
        yield bar.update
        if bar.n is not None:
            bar.update(total - bar.n)  # what another process fetched


@contextmanager
def _silence() -> Iterator[None]:
    """Keep huggingface_hub's loggers and warnings off stderr."""
    import logging
    import warnings

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
