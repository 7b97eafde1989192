"""Sets from files: which format one has, its content says.

A name says nothing: the published files are called .csv, .tsv, .test, .dev and .json, and people
rename them.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import BinaryIO

from gptcli.audit.sets import builtin, stereoset, tables, winobias, winogender
from gptcli.audit.sets.pairs import Kind, PairSet, digest
from gptcli.errors import BadInput, UsageError
from gptcli.inputs.encoding import refuse_foreign
from gptcli.inputs.records import Note
from gptcli.scoring.texts import read_bytes

MAX_SET_BYTES = 64 << 20  # StereoSet, the largest, has 6 MB
KNOWN = (
    "Known are: CrowS-Pairs (CSV with sent_more and sent_less), StereoSet (JSON), WinoBias (two"
    " files of numbered sentences), Winogender (TSV with sentid and sentence), and your own pairs"
    " (CSV, TSV or JSON lines with more and less)."
)
_BETWEEN = re.compile(r"[,;|\t]")
_HEADERS: dict[Kind, frozenset[str]] = {
    "crows-pairs": frozenset({"sent_more", "sent_less"}),
    "winogender": frozenset({"sentid", "sentence"}),
    "pairs": frozenset({"more", "less"}),
}


def read_sets(names: Sequence[str], stdin: BinaryIO | None, note: Note) -> list[PairSet]:
    """The sets of some files, or ours where none is named.

    Raises MissingInput; UsageError for a file that is named twice; BadInput for a file of no known
    format, and for one that breaks the rules of its own.
    """
    if not names:
        return [builtin.built_in()]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(name, "it is named twice", "Name each file once.")
    sets: list[PairSet] = []
    halves: list[winobias.WinoBiasFile] = []
    for name in names:
        data = read_bytes(name, stdin, MAX_SET_BYTES)
        shown = "standard input" if name == "-" else name
        refuse_foreign(data, f"file {shown}")
        found = _read(data, shown, note)
        if isinstance(found, PairSet):
            sets.append(found)
        else:
            halves.append(found)
    return [*sets, *winobias.paired(halves)]


def _read(data: bytes, name: str, note: Note) -> PairSet | winobias.WinoBiasFile:
    head = data.removeprefix(BOM_UTF8).lstrip()
    if not head:
        raise BadInput(name, "it is empty", KNOWN)
    first = head.partition(b"\n")[0].decode("utf-8", "replace").strip()
    if head[:1] == b"{":
        return _json(data, first, name, note)
    if winobias.LINE.fullmatch(first):
        return winobias.read(data, name, digest(data))
    titles = {title.strip().strip('"').casefold() for title in _BETWEEN.split(first)}
    if titles >= _HEADERS["winogender"]:
        return winogender.read(data, name)
    kinds: tuple[Kind, ...] = ("crows-pairs", "pairs")
    for kind in kinds:
        if titles & _HEADERS[kind]:
            return tables.read(kind, data, name, note)
    raise BadInput(name, f"it has no known format; it begins with {first[:60]!r}", KNOWN)


def _json(data: bytes, first: str, name: str, note: Note) -> PairSet:
    """StereoSet, or lines of JSON."""
    try:
        line = json.loads(first)
    except (ValueError, RecursionError):
        line = None
    if isinstance(line, dict) and _HEADERS["pairs"] & line.keys():
        return tables.read("pairs", data, name, note)
    if isinstance(line, dict) and _HEADERS["crows-pairs"] & line.keys():
        return tables.read("crows-pairs", data, name, note)
    document = stereoset.parsed(data)
    if stereoset.is_stereoset(document):
        return stereoset.read(document, data, name)
    keys = ", ".join(map(str, [*line][:8])) if isinstance(line, dict) else ""
    why = f"its keys are {keys[:80]}" if keys else "it is no JSON that is known here"
    raise BadInput(name, f"it has no known format; {why}", KNOWN)
