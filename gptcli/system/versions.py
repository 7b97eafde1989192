"""Versions of what a result may depend on beside a model and the options."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

from gptcli import __version__


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """gptcli's, Python's and those of libraries that are installed, and the kind of machine."""
    found = {"gptcli": __version__, "python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"machine": f"{platform.system()} {platform.machine()}"}
