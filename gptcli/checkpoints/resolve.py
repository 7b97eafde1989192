"""A model's name turned into a folder: alias, path, Hugging Face cache, Hub, or the bundled model.

What is in the cache is found by reading the cache's own layout (refs/<revision> names a commit,
snapshots/<commit> holds its files), because that needs no network and none of huggingface_hub's
slow modules: a cached model is found in a millisecond. Only a snapshot with everything that a model
needs counts; anything less is downloaded. Whether the files are sound is for
`gptcli.checkpoints.preflight`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptcli.checkpoints.adapters.lookup import adapter_in, base_missing, base_named
from gptcli.checkpoints.adapters.reference import SINGLE as ADAPTER_WEIGHTS
from gptcli.checkpoints.adapters.reference import Adapter, is_adapter
from gptcli.checkpoints.hf_cache import storage
from gptcli.checkpoints.names import (
    ALIASES,
    BUNDLED,
    COMMIT,
    GPT2,
    check_hub_id,
    check_revision,
    did_you_mean,
    known_ids,
    nearest,
)
from gptcli.checkpoints.safetensors_headers import INDEX, SINGLE, read_index
from gptcli.checkpoints.tokenization.files import lacking, names_in
from gptcli.checkpoints.training_files import INDEX_SUFFIX
from gptcli.errors import BadModel, MissingInput, Unavailable, UsageError
from gptcli.options import Load
from gptcli.options.model import parse_adapter
from gptcli.system.regular_files import read_text

BUNDLE = Path(__file__).parent.parent / "bundled" / BUNDLED
MAIN = "main"
ABBREVIATED = re.compile(r"[0-9a-f]{4,40}")  # the beginning of a commit
Progress = Callable[[], None] | None  # see gptcli.checkpoints.hub.download
MAX_REF_BYTES = 4096
TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for a set switch
WEIGHTS_SUFFIXES = (
    *(".gguf", ".h5", ".keras", ".msgpack", ".npz"),
    *(".pt", ".pth", ".ckpt", ".bin", ".index"),
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder that holds a model, and how it was found."""

    name: str  # the Hub id, the path as given, or tiny-tales
    folder: Path
    revision: str | None  # a Hub model's commit, 40 hexadecimal digits
    source: Literal["path", "cache", "hub", "bundled"]
    notices: tuple[str, ...] = ()
    adapters: tuple[Adapter, ...] = ()  # that are applied to it, in this order

    @property
    def parts(self) -> tuple[Path, tuple[Adapter, ...], str]:
        """What `gptcli.checkpoints.adapters.opened` takes."""
        return self.folder, self.adapters, self.name

    @property
    def title(self) -> str:
        """The model's name, with its adapters."""
        named = (f"{Path(one.name).name or one.name}" for one in self.adapters)
        scales = ("" if one.scale == 1 else f"={one.scale:g}" for one in self.adapters)
        return "+".join([self.name, *map("".join, zip(named, scales, strict=True))])

    def pinned(self, load: Load, model: str | None = None) -> Load:
        """The options that mean this very model and these adapters, wherever they are used."""
        from dataclasses import replace

        named = model or self.name
        adapter = tuple(one.pinned for one in self.adapters)
        return replace(load, model=named, revision=self.revision, adapter=adapter)


def resolve(load: Load, progress: Progress = None) -> Checkpoint:
    """Find the folder of the model that is asked for, downloading it if need be.

    Without a model: gpt2 from the cache or the Hub, else the bundled tiny-tales, with a notice. A
    model that is named is never replaced by another. A name that means an adapter opens its base
    with it. `progress` is for `gptcli.checkpoints.hub.download`.

    Raises UsageError for what cannot be a name, MissingInput for a folder that does not exist,
    Unavailable for a model that cannot be fetched, BadModel for one that cannot be used.
    """
    if load.model is None:
        found = _default(load, progress)
    else:
        found = _named(load, load.model, lambda repo_id: _on_hub(load, repo_id, progress))
    if load.adapter or is_adapter(found.folder):
        return _adapted(load, found, progress)
    return found


def resolve_adapter(given: str, load: Load, progress: Progress = None) -> Adapter:
    """Find one adapter, as `--adapter` names it. Raises as `resolve`."""
    from dataclasses import replace

    name, scale = parse_adapter(given)
    revision = None
    if not looks_like_path(name):
        name, _, at = name.partition("@")
        revision = at or None
    asked = replace(load, model=name, revision=revision, adapter=())
    found = _named(asked, name, lambda repo_id: _on_hub(asked, repo_id, progress), "--adapter")
    return adapter_in(found.folder, name, scale, found.revision)


def on_disk(name: str, revision: str | None = None) -> Checkpoint:
    """The folder of a model by any name that `resolve` takes, as it is here, complete or not.

    Never asks the Hub. A revision may also be the beginning of a commit, as lists show it. Raises
    as `resolve`; Unavailable for a model without a folder, and for an unknown revision.
    """
    load = Load(model=name, revision=revision)
    return _named(load, name, lambda repo_id: in_cache(repo_id, revision, name), "NAME")


def _named(
    load: Load, model: str, fetch: Callable[[str], Checkpoint], what: str = "--model"
) -> Checkpoint:
    """What a name means: the bundled model, a folder, or what `fetch` gives for a Hub id.

    `what`: where the name came from, for an error.
    """
    if model == BUNDLED:
        _refuse_revision(load)
        return _bundled()
    repo_id = ALIASES.get(model)
    if repo_id is None and looks_like_path(model):
        return _at_path(load)
    found = fetch(repo_id or check_hub_id(model, what))
    if repo_id is not None and Path(model).is_dir():
        notice = f"the folder {model} is not used: {model} names the Hub's model."
        return _with_notice(found, f"{notice} Say -m ./{model} for the folder")
    return found


def looks_like_path(name: str) -> bool:
    """Whether a name means a folder or a file: it is there, or is written as a path.

    A file counts only by its suffix: one may be called as a model is.
    """
    if not name or "\0" in name or "://" in name:
        return False
    written = name.startswith((".", "~", "/", os.sep)) or name.count("/") > 1
    try:
        weights = name.lower().endswith(WEIGHTS_SUFFIXES)
        if written or Path(name).is_dir() or (weights and Path(name).is_file()):
            return True
        return Path(name + INDEX_SUFFIX).is_file()  # TensorFlow's bundles are named without it
    except OSError:  # a name too long for the file system
        return False


def find_cached(repo_id: str, revision: str = MAIN) -> Checkpoint | None:
    """A complete snapshot in the Hugging Face cache; also under the id that the model once had."""
    for known_as in known_ids(repo_id):
        commit = _commit(storage(known_as), revision)
        if commit is not None and is_complete(storage(known_as) / "snapshots" / commit):
            return _cached(repo_id, known_as, commit)
    return None


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a configuration, a tokenizer, and all of its weights' files."""
    return not missing(folder)


def missing(folder: Path) -> tuple[str, ...]:
    """The files that a folder would need to be a model's: links that lead nowhere are missing."""
    if is_adapter(folder):
        return tuple(name for name in (ADAPTER_WEIGHTS,) if not (folder / name).exists())
    tokenizer = lacking(names_in(folder))
    needed = ("config.json", *tokenizer, *sorted(_weights(folder)))
    return tuple(name for name in needed if not (folder / name).exists())


def is_offline(load: Load) -> bool:
    """Whether the network must not be used: `--offline`, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE."""
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return load.offline or any(os.environ.get(name, "").upper() in TRUE for name in switches)


def _adapted(load: Load, found: Checkpoint, progress: Progress) -> Checkpoint:
    """A base with the adapters that are asked for; the name may mean one of them."""
    from dataclasses import replace

    adapters: list[Adapter] = []
    if is_adapter(found.folder):
        adapters = [adapter_in(found.folder, found.name, 1.0, found.revision)]
        found = _base_of(load, found, progress)
    adapters += [resolve_adapter(given, load, progress) for given in load.adapter]
    return replace(found, adapters=tuple(adapters))


def _base_of(load: Load, found: Checkpoint, progress: Progress) -> Checkpoint:
    """The base that an adapter's own file names. Raises BadModel, and as `resolve`."""
    from dataclasses import replace

    name, revision = base_named(found.folder, found.name)
    if looks_like_path(name) or name == BUNDLED:
        revision = None
    asked = replace(load, model=name, revision=revision, adapter=())
    try:
        base = _named(asked, name, lambda repo_id: _on_hub(asked, repo_id, progress))
    except (MissingInput, UsageError) as error:
        raise base_missing(found.name, name, error) from None
    if is_adapter(base.folder):
        why = f"its base {name!r:.200} is an adapter, too"
        raise BadModel(f"adapter {found.name}", why, "Merge that one first: gptcli models merge")
    return base


def _default(load: Load, progress: Progress) -> Checkpoint:
    if load.revision is not None:  # a commit of gpt2 is meant, which no other model has
        return _on_hub(load, GPT2, progress)
    try:
        return _on_hub(load, GPT2, progress)
    except Unavailable as error:
        notice = (
            f"gpt2 cannot be had ({error.why or error.what}): the small bundled {BUNDLED} answers."
            " For gpt2, run once while online: gptcli generate -m gpt2 Hello"
        )
        return _with_notice(_bundled(), notice)


def _bundled() -> Checkpoint:
    return Checkpoint(name=BUNDLED, folder=BUNDLE, revision=None, source="bundled")


def _at_path(load: Load) -> Checkpoint:
    name = load.model or ""
    _refuse_revision(load)
    try:
        folder = Path(os.path.expanduser(name))  # noqa: PTH111 - "./~" is no home
        fault = "" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
    except OSError:  # too long
        raise MissingInput(name, "no such folder", "Check the path") from None
    if fault:
        from gptcli.checkpoints.sources import refusal  # three modules, seldom needed

        foreign = refusal(folder)  # a file, or what files begin with
        raise foreign or MissingInput(name, fault, did_you_mean(name) or "Check the path")
    return Checkpoint(name=name, folder=folder, revision=None, source="path")


def _refuse_revision(load: Load) -> None:
    if load.revision is not None:
        raise UsageError("--revision", f"{load.model} is not a Hub model", "Leave it out")


def _on_hub(load: Load, repo_id: str, progress: Progress) -> Checkpoint:
    revision = check_revision(load.revision) if load.revision is not None else MAIN
    cached = find_cached(repo_id, revision)
    if cached is not None:
        return cached
    if is_offline(load):
        shown = load.model or "gpt2"
        at = f" --revision {load.revision}" if load.revision else ""
        once = f'Run once while online: gptcli generate -m {shown}{at} "Hello"'
        near = "" if load.model is None or shown in ALIASES else did_you_mean(shown)
        hint = f"{near} Or run{once[3:]}" if near and "/" in shown else near or once
        raise Unavailable(repo_id, "not in the cache, and offline", hint)
    from gptcli.checkpoints.hub import download

    found = download(repo_id, revision, progress)
    return Checkpoint(name=repo_id, folder=found.folder, revision=found.revision, source="hub")


def in_cache(repo_id: str, revision: str | None, name: str) -> Checkpoint:
    """A Hub model's snapshot as it is here; of its two ids, the one with a complete snapshot first.

    `name`: what it was called by, for hints. Raises UsageError (revision), Unavailable.
    """
    wanted = check_revision(revision) if revision is not None else MAIN
    complete = find_cached(repo_id, wanted)
    if complete is not None:
        return complete
    there = [known_as for known_as in known_ids(repo_id) if storage(known_as).is_dir()]
    for known_as in there:
        commit = _commit(storage(known_as), wanted) or _abbreviated(storage(known_as), wanted)
        if commit is not None and (storage(known_as) / "snapshots" / commit).is_dir():
            return _cached(repo_id, known_as, commit)
    if there:
        why = "no such revision in the cache" if revision else "its main branch is not in the cache"
        raise Unavailable(f"{repo_id} {revision or ''}".rstrip(), why, "See: gptcli models list")
    near = nearest(name)
    hint = f"Did you mean {near}?" if near else f"Fetch it: gptcli models pull {name}"
    raise Unavailable(repo_id, "not in the cache", hint)


def _cached(repo_id: str, known_as: str, commit: str) -> Checkpoint:
    folder = storage(known_as) / "snapshots" / commit
    return Checkpoint(name=repo_id, folder=folder, revision=commit, source="cache")


def _abbreviated(storage: Path, beginning: str) -> str | None:
    """The one commit of the cache that begins so."""
    if not ABBREVIATED.fullmatch(beginning):
        return None
    found = [folder.name for folder in (storage / "snapshots").glob(f"{beginning}*")]
    return found[0] if len(found) == 1 and COMMIT.fullmatch(found[0]) else None


def _with_notice(found: Checkpoint, notice: str) -> Checkpoint:
    from dataclasses import replace

    return replace(found, notices=(*found.notices, notice))


def _commit(storage: Path, revision: str) -> str | None:
    """The commit that a revision meant when it was last downloaded."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        commit = read_text(storage / "refs" / revision, MAX_REF_BYTES, "ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _weights(folder: Path) -> Iterator[str]:
    """Names of the files that hold the weights; an index that cannot be read counts as there, so
    that preflight says what is wrong with it."""
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        yield SINGLE
        return
    try:
        yield from set(read_index(folder / INDEX).values())
    except (BadModel, MissingInput):
        return
