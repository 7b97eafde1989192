"""What a model is by its content: the SHA-256 of each of its files that decides what it writes.

Two models with the same files are one, whatever they are called and wherever they lie; one changed
byte makes another. A file of the Hub's cache must also be the one that was published, which its
blob's name tells. Not here: how a digest is kept, see `digests` beside this; all files of a model
are compared with what was published in `gptcli.models.verification`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gptcli.checkpoints.integrity.digests import digests
from gptcli.checkpoints.safetensors_headers import INDEX, read_tensors
from gptcli.checkpoints.tokenization.files import names_in
from gptcli.errors import BadModel
from gptcli.system.checksums import CHECKSUM, algorithm_of, file_digest

OTHER_FILES = {INDEX, "adapter_config.json", "adapter_model.safetensors"}  # that decide, too
MAX_NAMED = 3  # files in a message
MAX_FILES = 4096  # of a model, in what others say of it
MAX_NAME = 60  # characters of a name in a message
_SHA256 = re.compile(r"[0-9a-f]{64}")


def content(folder: Path, name: str) -> dict[str, str]:
    """The SHA-256 of each file that decides what the model in a folder writes; its weights too.

    `name`: what the model is called, for an error. Raises BadModel (also for a file of the Hub's
    cache that is not the published one), MissingInput.
    """
    from gptcli.checkpoints.hub.offer import small_files

    names = names_in(folder)
    paths = {folder / known for known in small_files(names) | (OTHER_FILES & {*names})}
    paths |= {tensor.file for tensor in read_tensors(folder).values()}
    return {path.name: digest for path, digest in published(paths, name).items()}


def digest_of(files: Mapping[str, str]) -> str:
    """One SHA-256 for a whole `content`: of a line for each file, by name, as sha256sum has it."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def published(paths: Iterable[Path], name: str) -> dict[Path, str]:
    """The SHA-256 of files of a model; `name` and errors as in `content`."""
    found = digests(sorted(paths))
    for path, digest in found.items():
        if not _as_published(path, digest):
            raise BadModel(
                "damaged model file",
                f"{path.name}: it is not what was downloaded",
                f"See: gptcli models verify {name}",
            )
    return found


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How the files of one model differ from another's, in words; empty if they do not."""
    found = list(_changes(then, now))
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return f"{', '.join(found[:MAX_NAMED])}{more}"


def checked_content(value: object) -> dict[str, str]:
    """What a file of ours says of a model's content. Raises ValueError with the rule."""
    if not isinstance(value, dict) or len(value) > MAX_FILES:
        raise ValueError("the files of the model are not a short list")
    for digest in value.values():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError("the SHA-256 of a file of the model is not one")
    return value


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if name not in now:
            yield f"{name[:MAX_NAME]} is gone"
        elif name not in then:
            yield f"{name[:MAX_NAME]} is new"
        elif then[name] != now[name]:
            yield f"{name[:MAX_NAME]} has other contents"


def _as_published(path: Path, digest: str) -> bool:
    """Whether a file's content is the one that its blob is named after; any file elsewhere is."""
    real = Path(os.path.realpath(path))
    if not path.is_symlink() or real.parent.name != "blobs" or not CHECKSUM.fullmatch(real.name):
        return True
    if algorithm_of(real.name) == "sha256":
        return digest == real.name
    return file_digest(real, "git-sha1")[0] == real.name
