"""A GPT-2's checkpoint with adapters: changed tensors in a file of its own, the rest as it was.

So every network reads an adapted model as any other. The file has no name where the system allows
that, and goes with the process, however that ends. Changed tensors are float32 in it: each network
rounds them once to its own data type.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from weakref import finalize

from gptcli.checkpoints.adapters.base_check import check_base
from gptcli.checkpoints.adapters.changes import Changes, changes
from gptcli.checkpoints.adapters.parts import read_parts
from gptcli.checkpoints.adapters.reference import Adapter
from gptcli.checkpoints.adapters.said import said
from gptcli.checkpoints.adapters.stored_base import StoredBase
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.errors import WriteFailed
from gptcli.system.os_errors import reason

PREFIX = "gptcli-adapted-"
DESCRIPTORS = Path("/proc/self/fd")


class _Temporary:
    """A file that is gone once nobody holds it."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.file = tempfile.TemporaryFile(prefix=PREFIX, buffering=0)  # noqa: SIM115 - kept
        self.path = DESCRIPTORS / str(self.file.fileno())
        if not self.path.exists():
            self.file.close()
            descriptor, name = tempfile.mkstemp(prefix=PREFIX)
            self.file, self.path = os.fdopen(descriptor, "wb", buffering=0), Path(name)
            finalize(self, self.path.unlink, missing_ok=True)
        finalize(self, self.file.close)


def with_adapters(
    checked: CheckedCheckpoint, adapters: Sequence[Adapter], label: str
) -> tuple[CheckedCheckpoint, tuple[str, ...]]:
    """The checkpoint as adapters make it, and what was applied, in words.

    `label`: how messages call the base. Raises BadModel, MissingInput; WriteFailed where there is
    no room for the changed tensors.
    """
    if not adapters or checked.gpt2 is None:
        return checked, ()
    read = [read_parts(adapter) for adapter in adapters]
    check_base(read, checked.folder, label)
    found = changes(StoredBase(checked, label), read)
    try:
        changed, digests, held = _written(found)
    except OSError as error:
        why = f"{reason(error)}, for the tensors that adapters change"
        raise WriteFailed(tempfile.gettempdir(), why, "Make room, or set TMPDIR.") from None
    gpt2 = replace(checked.gpt2, tie_word_embeddings=found.tied)
    if (embedding := changed.get("wte.weight")) is not None:
        gpt2 = replace(gpt2, vocab_size=embedding.shape[0])
    tensors = checked.tensors | changed
    if found.tied:
        tensors.pop("lm_head.weight", None)
    adapted = replace(checked, gpt2=gpt2, tensors=tensors, digests=digests, held=(held,))
    return adapted, said(read, found)


def _written(found: Changes) -> tuple[dict[str, Tensor], dict[Path, str], object]:
    """The changed tensors in a temporary file, its digest, and what keeps it. Raises OSError."""
    temporary = _Temporary()
    digest, end = sha256(), 0
    entries: dict[str, Tensor] = {}
    for name in sorted(found.parts):
        if found.tied and name == found.base.head:
            continue
        values = found.value(name)
        data = values.astype("<f4", order="C", copy=False).reshape(-1).data.cast("B")
        entries[name] = Tensor(temporary.path, "F32", values.shape, end, len(data))
        done = 0
        while done < len(data):
            done += temporary.file.write(data[done:])
        digest.update(f"{name}\0{values.shape}\0".encode())
        digest.update(data)
        end += len(data)
    return entries, {temporary.path: digest.hexdigest()}, temporary
