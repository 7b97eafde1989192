"""Versions of gptcli, Python and the libraries, compared with the required ones.

The requirements of pyproject.toml are read from the installed package's metadata. No library is
imported here: whether torch loads is checked in `gptcli.doctor.hardware`.
"""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from gptcli import __version__
from gptcli.doctor.findings import Finding, Findings

EXTRAS = {  # and the library that shows whether each is there
    "remote": "httpx2",
    "parquet": "pyarrow",
    "zstd": "zstandard",
    "ray": "ray",
    "languages": "jieba",
    "bench": "ctranslate2",
}
INSTALL = "Run: pip install"


def versions() -> Findings:
    """Every library that gptcli needs, and the extras that are there."""
    yield Finding(area="versions", what="gptcli", value=__version__)
    where = f"{platform.python_version()} at {sys.executable or 'an unknown place'}"
    yield Finding(area="versions", what="Python", value=where)
    try:
        asked = metadata.requires("gptcli") or []
    except metadata.PackageNotFoundError:
        yield Finding(
            area="versions",
            what="package",
            value="gptcli is not installed, only imported",
            level="note",
            fix=f"{INSTALL} . in its folder",
        )
        return
    for text in asked:
        if "extra ==" not in text:
            yield _library(text)
    yield _extras()


def _library(text: str) -> Finding:
    from packaging.requirements import Requirement

    asked = Requirement(text)
    try:
        found = metadata.version(asked.name)
    except metadata.PackageNotFoundError:
        return Finding(
            area="versions",
            what=asked.name,
            value="it is not installed",
            level="problem",
            fix=f"{INSTALL} '{asked.name}{asked.specifier}'",
        )
    if not asked.specifier.contains(found, prereleases=True):
        return Finding(
            area="versions",
            what=asked.name,
            value=f"{found}, and {asked.specifier} is needed",
            level="problem",
            fix=f"{INSTALL} '{asked.name}{asked.specifier}'",
        )
    return Finding(area="versions", what=asked.name, value=found)


def _extras() -> Finding:
    there, missing = [], []
    for extra, library in EXTRAS.items():
        try:
            there.append(f"{extra} ({library} {metadata.version(library)})")
        except metadata.PackageNotFoundError:
            missing.append(extra)
    value = ", ".join(there) or "none"
    if missing:
        value += f"; pip install 'gptcli[{','.join(missing)}]' adds what is missing"
    return Finding(area="versions", what="extras", value=value)
