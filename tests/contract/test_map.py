"""The map, the contributor's page and docstrings name only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.console import ROOT

PACKAGE = ROOT / "gptcli"
NAMED = re.compile(r"`([\w./-]+(?:/|\.(?:py|toml|md|c)))`")
DOTTED = re.compile(r"`(gptcli(?:\.\w+)+)`")
PAGES = [PACKAGE / "README.md", ROOT / ".github" / "CONTRIBUTING.md", ROOT / "tests" / "README.md"]
SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.[ch]"), *ROOT.glob("tests/**/*.py")])
# Examples of a kind of file, named without their folder.
BARE = ("options.py", "forward.c", "unpickling.py", "linear.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    for path in NAMED.findall(page.read_text(encoding="utf-8")):
        if "NAME" in path or path in BARE:
            continue
        roots = (ROOT, PACKAGE, ROOT / "tests", ROOT / "tests" / "contract")
        rooms = (
            "tasks",
            "batch",
            "cli",
            "engines/gpt2",
            "engines/remote",
            "native",
            "native/kernels",
        )
        inner = (PACKAGE / room for room in rooms)
        assert any((place / path).exists() for place in (*roots, *inner)), path


def test_the_map_names_every_room() -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    for room in PACKAGE.iterdir():
        if room.is_dir() and not room.name.startswith(("_", ".")):
            assert f"`{room.name}/`" in text, room.name


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a module or folder, or a name in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                inside = re.compile(rf"\b{parts[count]}\b") if count < len(parts) else None
                return inside is None or bool(inside.search(file.read_text(encoding="utf-8")))
    return ROOT.joinpath(*parts).is_dir()


def test_comments_speak_of_modules_that_are_there() -> None:
    for file in SOURCES:
        for dotted in DOTTED.findall(file.read_text(encoding="utf-8")):
            assert dotted == "gptcli.tasks" or is_there(dotted), f"{name(file)}: {dotted}"
