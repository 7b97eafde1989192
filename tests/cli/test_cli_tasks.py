"""`gptcli tasks`: what each command prints, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcli.tasks.definition import catalog

Cli = Callable[..., tuple[int, str, str]]
TASK = 'description = "Mine."\nprompt = "{input}"  # a comment\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's folder of tasks will be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return catalog.user_folder()


@pytest.fixture
def cli(main_in: Cli, home: Path) -> Cli:
    """A function that runs `gptcli tasks`; gives code, stdout, stderr."""
    return lambda *args: main_in("tasks", *args)


def put(home: Path, name: str, text: str = TASK) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / f"{name}.toml").write_text(text)
    return home / f"{name}.toml"


def test_without_a_command_it_lists_as_other_groups_do(cli: Cli) -> None:
    assert cli() == cli("list")
    assert cli("--json") == cli("list", "--json")
    code, out, _ = cli("--help")
    assert code == 0
    for name in ("list", "show", "new", "path"):
        assert name in out


def test_list_has_a_line_for_each_task(cli: Cli) -> None:
    code, out, err = cli("list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == catalog.names()


def test_columns_of_the_list_are_aligned(cli: Cli, home: Path) -> None:
    put(home, "summarize")
    put(home, "a")
    lines = cli("list")[1].splitlines()
    assert "summarize  user (not built-in)  Mine." in lines
    assert {line.find("Mine.") for line in lines} - {-1} == {lines[0].index("Mine.")}


def test_list_as_json_has_these_keys(cli: Cli, home: Path) -> None:
    path = put(home, "summarize")
    found = {item["name"]: item for item in json.loads(cli("list", "--json")[1])}
    assert found["summarize"] == {
        "name": "summarize",
        "description": "Mine.",
        "origin": "user",
        "path": str(path),
        "overrides": ["built-in"],
        "error": "",
    }


def test_a_broken_file_does_not_break_the_list(cli: Cli, home: Path) -> None:
    put(home, "broken", "=")
    code, out, err = cli("list")
    assert code == 0
    assert "error: " in next(line for line in out.splitlines() if line.startswith("broken"))
    assert err == f"gptcli: note: 1 of {len(catalog.names())} cannot be used\n"
    assert cli("list", "--quiet")[2] == ""


def test_a_name_with_a_line_break_stays_on_its_line(cli: Cli, home: Path) -> None:
    put(home, "a\nb")
    assert len(cli("list")[1].splitlines()) == len(catalog.names()) + 1


def test_show_prints_the_file_as_it_is(cli: Cli, home: Path) -> None:
    put(home, "mine")
    assert cli("show", "mine") == (0, TASK, "")


def test_show_prints_a_broken_file_too(cli: Cli, home: Path) -> None:
    put(home, "mine", "= broken")
    assert cli("show", "mine") == (0, "= broken", "")


def test_show_as_json_is_what_was_understood(cli: Cli) -> None:
    found = json.loads(cli("show", "translate", "--json")[1])
    assert (found["name"], found["columns"]) == ("translate", ["{from}", "{to}"])
    assert found["options"][0]["choices"][:2] == ["en", "fr"]


def test_show_as_json_of_a_broken_file_is_an_error(cli: Cli, home: Path) -> None:
    put(home, "mine", "prompt = 1")
    code, out, err = cli("show", "mine", "--json")
    assert (code, out) == (65, "")
    message, shown = err.splitlines()
    assert message.endswith("gptcli tasks new shows the layout.")
    assert json.loads(shown)["error"]["type"] == "BadTask"


def test_new_makes_a_task_that_can_be_read(cli: Cli, home: Path) -> None:
    assert cli("new", "mine") == (0, f"{home / 'mine.toml'}\n", "")
    assert catalog.find("mine").source == str(home / "mine.toml")
    assert "gptcli run mine" in (home / "mine.toml").read_text()


def test_new_does_not_overwrite(cli: Cli, home: Path) -> None:
    path = put(home, "mine")
    code, out, err = cli("new", "mine")
    assert (code, out) == (73, "")
    assert "it exists already. Overwrite it with --force." in err
    assert path.read_text() == TASK


def test_new_overwrites_with_force(cli: Cli, home: Path) -> None:
    path = put(home, "mine")
    assert cli("new", "mine", "--force")[0] == 0
    assert path.read_text() != TASK


def test_new_says_what_it_hides(cli: Cli, home: Path) -> None:
    assert "in place of the one there was" in cli("new", "summarize")[2]
    assert cli("new", "summarize", "--force")[2] == ""
    assert cli("new", "translate", "--quiet")[2] == ""


def test_new_where_there_can_be_no_folder(cli: Cli, home: Path) -> None:
    home.parent.parent.mkdir()
    home.parent.touch()
    code, _, err = cli("new", "mine")
    assert code == 73
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "new", "path"])
@pytest.mark.parametrize("name", ["../x", "a/b", "A", "a" * 300, "a\nb", "\x1b[2J"])
def test_a_hostile_name_is_refused_and_nothing_made(
    cli: Cli, home: Path, command: str, name: str
) -> None:
    code, out, err = cli(command, name)
    assert (code, out) == (2, "")
    assert "is not a task's name" in err
    assert not home.parent.parent.exists()


def test_path_is_the_users_folder(cli: Cli, home: Path) -> None:
    assert cli("path") == (0, f"{home}\n", "")


def test_path_of_a_task_is_its_file(cli: Cli) -> None:
    assert cli("path", "summarize")[1] == f"{catalog.BUILT_IN / 'summarize.toml'}\n"


def test_an_unknown_task_is_a_usage_error(cli: Cli) -> None:
    code, _, err = cli("show", "sumarize")
    assert code == 2
    assert "Did you mean summarize? gptcli tasks list shows them all." in err
