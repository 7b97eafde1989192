"""Where tasks are found, which of one name wins, and that no package's code is run for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gptcli.errors import BadTask, UsageError
from gptcli.tasks.definition import catalog

TASK = 'description = "{0}"\nprompt = "{{input}}"\n'
BUILT_IN = "summarize"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of tasks."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = catalog.user_folder()
    assert tmp_path in folder.parents
    folder.mkdir(parents=True)
    return folder


def put(folder: Path, name: str, description: str = "Mine.") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(TASK.format(description))
    return path


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that installs a package with an entry point; importing any of it fails."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def install(package: str, value: str) -> Path:
        metadata = site / f"{package}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0")
        (metadata / "entry_points.txt").write_text(f"[{catalog.GROUP}]\n{package} = {value}\n")
        folder = site
        for part in value.partition(":")[0].split(".") if value.isascii() else ():
            folder /= part
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").write_text("raise SystemExit('imported')")
        return folder

    return install


def listed(name: str) -> catalog.ListedTask:
    return next(item for item in catalog.listing() if item.name == name)


def test_a_built_in_task(home: Path) -> None:
    assert catalog.find(BUILT_IN).source == str(catalog.BUILT_IN / f"{BUILT_IN}.toml")
    assert (listed(BUILT_IN).origin, listed(BUILT_IN).overrides) == ("built-in", ())


def test_the_skeleton_is_not_listed(home: Path) -> None:
    assert catalog.SKELETON.is_file()
    assert "skeleton" not in catalog.names()


def test_the_users_task_wins_over_a_built_in(home: Path) -> None:
    path = put(home, BUILT_IN)
    assert catalog.find(BUILT_IN).description == "Mine."
    assert (listed(BUILT_IN).path, listed(BUILT_IN).overrides) == (path, ("built-in",))


def test_a_broken_file_of_the_user_does_not_fall_back(home: Path) -> None:
    put(home, BUILT_IN).write_text("=")
    with pytest.raises(BadTask, match="not TOML"):
        catalog.find(BUILT_IN)


def test_a_broken_file_is_listed_with_its_error(home: Path) -> None:
    put(home, "broken").write_text("prompt = 1")
    put(home, "Bad Name")
    assert "broken.toml: prompt: it is a whole number, not a text" in listed("broken").error
    assert "a task's name is" in listed("Bad Name").error
    assert listed(BUILT_IN).error == ""
    assert "Bad Name" not in catalog.names()


def test_hidden_files_and_other_files_are_left_out(home: Path) -> None:
    put(home, ".#mine")
    (home / "notes.txt").touch()
    assert {item.origin for item in catalog.listing()} == {"built-in"}


def test_a_user_without_a_folder_has_the_built_in_tasks(home: Path) -> None:
    home.rmdir()
    assert BUILT_IN in catalog.names()


@pytest.mark.parametrize("value", ["plugin", "plugin.inner.tasks", "plugin.inner:name"])
def test_a_package_brings_tasks_without_being_imported(home: Path, install, value: str) -> None:
    put(install("plugin", value), "haiku", "A poem.")
    assert catalog.find("haiku").description == "A poem."
    assert listed("haiku").origin == "package plugin"
    assert not any(name.startswith("plugin") for name in sys.modules)


def test_a_module_stands_for_its_folder(home: Path, install) -> None:
    folder = install("plugin", "plugin")
    (folder / "tasks.py").write_text("raise SystemExit('imported')")
    entry_points = folder.parent / "plugin-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(f"[{catalog.GROUP}]\na = plugin.tasks\nb = plugin\n")
    put(folder, "haiku")
    assert catalog.find("haiku").name == "haiku"
    assert listed("haiku").overrides == ()


def test_ours_win_over_a_packages(home: Path, install) -> None:
    put(install("plugin", "plugin"), BUILT_IN)
    assert (listed(BUILT_IN).origin, listed(BUILT_IN).overrides) == (
        "built-in",
        ("package plugin",),
    )


def test_of_two_packages_the_first_by_name_wins(home: Path, install) -> None:
    put(install("zebra", "zebra"), "haiku", "Z")
    put(install("ant", "ant"), "haiku", "A")
    assert catalog.find("haiku").description == "A"
    assert listed("haiku").overrides == ("package zebra",)


@pytest.mark.parametrize("value", ["nothere", "json.nothere.deeper", "__main__", "sys", "."])
def test_an_entry_point_to_nothing_is_passed_over(
    home: Path, tmp_path: Path, install, value: str
) -> None:
    install("plugin", "plugin")
    metadata = tmp_path / "site" / "plugin-1.0.dist-info"
    (metadata / "entry_points.txt").write_text(f"[{catalog.GROUP}]\na = {value}\n")
    assert BUILT_IN in catalog.names()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sumarize", "Did you mean summarize?"),
        ("haiko", "Did you mean haiku?"),
        ("xyzzy", "gptcli tasks list"),
    ],
)
def test_an_unknown_name_is_a_usage_error(home: Path, install, name: str, hint: str) -> None:
    put(install("plugin", "plugin"), "haiku")
    with pytest.raises(UsageError, match=f"task {name}: there is no such task") as caught:
        catalog.find(name)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "C:x", "~", "-rf"),
        *("a\0b", "a\nb", "A", "\u00e9", "a.toml", "a b", "a" * 300, "\u2024\u2024/x", "\udcff"),
    ],
)
def test_a_hostile_name_never_reaches_the_disk(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.os.path, "lexists", lambda path: pytest.fail(f"asked for {path}"))
    with pytest.raises(UsageError, match="is not a task's name"):
        catalog.find(name)


def test_packages_are_asked_only_for_what_is_not_found_before() -> None:
    program = (
        "import sys; from gptcli.tasks.definition import catalog; catalog.find('summarize');"
        "sys.exit('importlib.metadata' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
