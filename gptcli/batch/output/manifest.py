"""The manifest of an output: what the output was made from, to compare a resumed run with.

Two runs may share an output only if each row would be the same: the same contents of the inputs
(not their names: a file may have moved), the same settings, the same model (by the contents of its
files), and the same version of gptcli up to the patch number. Standard input is not known
beforehand; its rows are compared one by one while they are read. The manifest is written whole and
flushed before the first row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.checkpoints.integrity.content import changes, checked_content
from gptcli.errors import BadInput
from gptcli.system import durable
from gptcli.system.strict_json import Object, parse_object
from gptcli.system.units import counted

FORMAT = 1
MAX_MANIFEST_BYTES = 1 << 20  # bytes: a few hundred inputs take a tenth of it
WAY_OUT = "Start over with --force, or write elsewhere with -o."

_KEYS = {
    *("format", "version", "inputs", "settings", "model", "revision", "rows", "failed"),
    "complete",
}
_LATER_KEYS = {"model_files"}  # that manifests of former versions lack
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_VALUE_LENGTH = 60  # characters of a value in a message


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """What an output is made from and, once it is complete, how many rows it has.

    `settings` has all that a row's text depends on, by option; its values are JSON's (a tuple is a
    list). `files`: the SHA-256 of the model's files, see `gptcli.checkpoints.integrity.content`;
    empty with a server, and in what a former version began: then name and revision tell the model.
    """

    version: str
    inputs: tuple[Fingerprint, ...]
    settings: Mapping[str, object]
    model: str
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    failed: int | None = None  # how many of the rows are errors
    complete: bool = False

    @property
    def comparable(self) -> bool:
        """Whether all inputs are known by their contents, which those of standard input are not."""
        return all(item.sha256 for item in self.inputs)

    def completed(self, rows: int, failed: int) -> RunManifest:
        """The same, of a finished output."""
        return replace(self, rows=rows, failed=failed, complete=True)


def write_manifest(path: Path, manifest: RunManifest) -> None:
    """Replace the file, for good. Raises OSError."""
    whole = {
        "format": FORMAT,
        "version": manifest.version,
        "model": manifest.model,
        "revision": manifest.revision,
        "model_files": dict(manifest.files),
        "inputs": [
            {"name": item.name, "size": item.size, "sha256": item.sha256}
            for item in manifest.inputs
        ],
        "settings": dict(manifest.settings),
        "rows": manifest.rows,
        "failed": manifest.failed,
        "complete": manifest.complete,
    }
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    durable.save_as(durable.part_of(path), path, text.encode("utf-8", "backslashreplace"))


def read_manifest(path: Path) -> RunManifest | None:
    """The manifest of an output, None where there is none.

    Raises BadInput, naming the rule, for a file that is broken or not ours, or is no regular file;
    OSError: the disk may fail, see `gptcli.batch.output.output_files.creating`.
    """
    try:
        data = durable.read_small(path, MAX_MANIFEST_BYTES)
        return None if data is None else _manifest(parse_object(data))
    except ValueError as error:
        raise BadInput(f"manifest {path}", str(error), WAY_OUT) from None


def differences(then: RunManifest, now: RunManifest) -> tuple[str, ...]:
    """What would make rows of one run differ from the other's, each in words."""
    return tuple(_differences(then, now))


def input_differences(then: RunManifest, now: RunManifest) -> tuple[str, ...]:
    """Those of `differences` that are the inputs'."""
    return tuple(_of_inputs(then.inputs, now.inputs))


def _differences(then: RunManifest, now: RunManifest) -> Iterator[str]:
    if then.version.split(".")[:2] != now.version.split(".")[:2]:
        yield f"gptcli was {then.version[:_MAX_VALUE_LENGTH]} and is {now.version}"
    yield from _of_model(then, now)
    yield from _of_inputs(then.inputs, now.inputs)
    before, after = _plain(then.settings), _plain(now.settings)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or before[name] != after[name]:
            old, new = (
                _shown(side[name]) if name in side else "not there" for side in (before, after)
            )
            yield f"{name} was {old} and is {new}"


def _of_model(then: RunManifest, now: RunManifest) -> Iterator[str]:
    """The same files, or else the same commit, are one model, whatever it is called."""
    changed_files = changes(then.files, now.files) if then.files and now.files else ""
    if then.files and now.files and not changed_files:
        return
    if then.revision is None or then.revision != now.revision:
        if then.model != now.model:
            yield f"the model was {then.model[:_MAX_VALUE_LENGTH]} and is {now.model}"
        if then.revision != now.revision and not changed_files:
            yield f"the model's revision was {_shown(then.revision)} and is {_shown(now.revision)}"
    if changed_files:
        yield f"the model was changed: {changed_files}"


def _of_inputs(then: tuple[Fingerprint, ...], now: tuple[Fingerprint, ...]) -> Iterator[str]:
    if len(then) != len(now):
        was = "was" if len(then) == 1 else "were"
        yield f"there {was} {counted(len(then), 'input')}, now {len(now)}"
        return
    for old, new in zip(then, now, strict=True):
        if (old.sha256 is None) != (new.sha256 is None):
            yield f"the input was {old.name[:_MAX_VALUE_LENGTH]} and is {new.name}"
        elif old.size != new.size:
            yield f"the input {new.name} had {old.size} bytes and has {new.size}"
        elif old.sha256 != new.sha256:
            yield f"the input {new.name} has other contents of the same size"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}..."


def _plain(settings: Mapping[str, object]) -> dict[str, object]:
    """As JSON gives them back: tuples become lists."""
    found: dict[str, object] = json.loads(json.dumps(dict(settings)))
    return found


def _manifest(found: Object) -> RunManifest:
    """The manifest in a JSON object. Raises ValueError with the rule that is broken."""
    if found.get("format") != FORMAT:
        raise ValueError(f"format is {_shown(found.get('format'))}, not {FORMAT}")
    strange = sorted((found.keys() - _LATER_KEYS) ^ _KEYS)
    if strange:
        raise ValueError(f"{'lacks' if strange[0] in _KEYS else 'has'} {strange[0][:40]!r}")
    complete, rows, failed = found["complete"], found["rows"], found["failed"]
    if not isinstance(complete, bool):
        raise ValueError("complete is neither true nor false")
    if complete and (rows is None or failed is None):
        raise ValueError("complete, but without a number of rows")
    inputs, settings = found["inputs"], found["settings"]
    if not isinstance(inputs, list) or not isinstance(settings, dict):
        raise ValueError("inputs is not a list, or settings not an object")
    return RunManifest(
        version=_text("version", found["version"]),
        inputs=tuple(map(_fingerprint, inputs)),
        settings=settings,
        model=_text("model", found["model"]),
        revision=None if found["revision"] is None else _text("revision", found["revision"]),
        files=checked_content(found.get("model_files", {})),
        rows=_count("rows", rows),
        failed=_count("failed", failed),
        complete=complete,
    )


def _fingerprint(item: object) -> Fingerprint:
    if not isinstance(item, dict) or item.keys() != {"name", "size", "sha256"}:
        raise ValueError("an input has other keys than name, sha256, size")
    sha256 = item["sha256"]
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise ValueError("an input's sha256 is not one")
    return Fingerprint(_text("an input's name", item["name"]), _count("size", item["size"]), sha256)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is not a number of something")
    return value


def changed(name: str, reasons: Iterable[str], hint: str = "") -> BadInput:
    """The error for an output that was made from something else."""
    return BadInput(
        f"output {name}",
        f"it was begun differently: {'; '.join(reasons)}",
        hint or f"Run it as before. {WAY_OUT}",
    )
