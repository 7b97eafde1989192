"""A task's options as flags, in the environment and in config.toml, and their values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from support.task_files import FULL, SHOTS, TOP, task

from gptcli.cli import registry, root
from gptcli.cli.main import main
from gptcli.cli.registry import CommandEntry
from gptcli.errors import UsageError
from gptcli.options import Talk
from gptcli.options.spec import Options
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import options_class, values

Seen = dict[str, Any]
DEFAULTS = {
    "style": None,
    "from": "en",
    "to": "fr",
    "count": 2,
    "share": 1.0,
    "loud": False,
    "parts": ("a", "b c"),
    "context": None,
}


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Seen]:
    """A function that parses a command line of the task and gives the values of its options."""
    seen: Seen = {}
    group = options_class(task())

    def try_(*, options: Options, talk: Talk) -> None:
        """Note the options."""
        seen.clear()
        seen.update(values(task(), options), example=getattr(options, "example", None))

    try_.__annotations__["options"] = group
    more = (*registry.COMMANDS, CommandEntry("try", "a_module", "Try."))
    monkeypatch.setattr(registry, "COMMANDS", more)
    monkeypatch.setitem(sys.modules, "a_module", SimpleNamespace(**{"try": try_}))

    def parse(*args: str) -> Seen:
        with pytest.raises(SystemExit) as leaving:
            main(["try", *args])
        assert leaving.value.code == 0, args
        return dict(seen)

    return parse


def refuse(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    """Run a command line that is a usage error; gives its message."""
    with pytest.raises(SystemExit) as leaving:
        main(["try", *args])
    assert leaving.value.code == 2
    return capfd.readouterr().err


def test_defaults_are_those_of_the_file(parse: Callable[..., Seen]) -> None:
    assert parse() == {**DEFAULTS, "example": ()}


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--style", "low key"], "style", "low key"),
        (["--style", r"a\n"], "style", r"a\n"),
        (["--from", "fr", "--to", "en"], "from", "fr"),
        (["--count=9"], "count", 9),
        (["--share", "0.5"], "share", 0.5),
        (["--loud"], "loud", True),
        (["--loud", "--no-loud"], "loud", False),
        (["--parts", "x, y z,,"], "parts", ("x", "y z")),
        (["--context", "a.txt"], "context", "a.txt"),
        (["--example", "a = b", "--example", "c = d"], "example", ("a = b", "c = d")),
    ],
)
def test_a_flag_sets_its_option(
    parse: Callable[..., Seen], flags: list[str], name: str, value: object
) -> None:
    assert parse(*flags)[name] == value


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--from", "de"], "--from: 'de' is not one of 'en', 'fr'"),
        (["--from", "fr"], "--to: 'fr', the same as --from"),
        (["--count", "10"], "--count: 10 is out of range. Give from 1 to 9"),
        (["--count", "x"], "--count: 'x' is not a whole number"),
        (["--share", "-1"], "--share: -1.0 is out of range"),
        (["--share", "nan"], "--share: nan is out of range"),
        (["--parts", " , "], "--parts: the list is empty"),
        (["--parts", "a,b,a"], "--parts: 'a,b,a' names something twice"),
        (["--style", "a\udcff"], "--style: invalid UTF-8 at byte 1"),
        (["--from_", "fr"], "no such option"),
    ],
)
def test_a_bad_value_is_a_usage_error(
    parse: Callable[..., Seen], capfd: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    assert told in refuse(capfd, *flags)


def test_the_environment_has_the_plain_name(
    parse: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_FROM", "fr")
    monkeypatch.setenv("GPTCLI_TO", "en")
    monkeypatch.setenv("GPTCLI_LOUD", "1")
    assert {**DEFAULTS, "from": "fr", "to": "en", "loud": True}.items() <= parse().items()


def test_an_error_names_the_variable(
    parse: Callable[..., Seen],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPTCLI_FROM", "xx")  # which no task knows
    assert "--from (or GPTCLI_FROM)" in refuse(capfd)


def test_the_configuration_has_the_plain_name(parse: Callable[..., Seen], tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[try]\nfrom = 'fr'\nto = 'en'\ncount = 3\nparts = 'x, y'\nexample = ['a = b']")
    seen = parse("--config", str(path), "--count", "4")
    assert (seen["from"], seen["to"], seen["count"]) == ("fr", "en", 4)
    assert (seen["parts"], seen["example"]) == (("x", "y"), ("a = b",))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("from_ = 'fr'", "from_: there is no such option. Did you mean from?"),
        ("from = 'de'", "from: 'de' is not one of en, fr"),
        ("count = 10", "count: 10 is out of range"),
    ],
)
def test_a_bad_configuration_is_named_by_file_and_key(
    parse: Callable[..., Seen],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    line: str,
    told: str,
) -> None:
    (tmp_path / "c.toml").write_text(f"[try]\n{line}")
    with pytest.raises(SystemExit) as leaving:
        main(["try", "--config", str(tmp_path / "c.toml")])
    assert leaving.value.code == 65
    assert f"c.toml:2: [try] {told}" in capfd.readouterr().err


def test_help_lists_the_options_with_choices_ranges_and_defaults(
    parse: Callable[..., Seen],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    parse("--help")
    shown = capfd.readouterr().out
    panel = shown[shown.index("─ Task ") : shown.index("─ General ")]
    for part in ("--from", "en|fr", "--no-loud", "(from 1 to 9)", "A,B,...", "[default: a, b c]"):
        assert part in panel


def test_brackets_in_a_file_are_no_markup(capfd: pytest.CaptureFixture[str]) -> None:
    text = (
        f"{TOP}[options.a]\ntype = 'choice'\nhelp = 'A [/b] [red]c.'\n"
        "choices = ['[/x]', 'y']\ndefault = '[/x]'"
    )

    def try_(*, options: Options) -> None:
        """Nothing."""

    try_.__annotations__["options"] = options_class(task(text))
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    root.register(app, "try", try_)
    with pytest.raises(SystemExit):
        app(["--help"])
    assert "A [/b] [red]c." in capfd.readouterr().out


def test_a_task_without_examples_has_no_such_flag() -> None:
    assert [item.name for item in fields(options_class(task(TOP)))] == []  # type: ignore[arg-type]
    assert [item.name for item in fields(options_class(task(SHOTS)))] == ["example"]  # type: ignore[arg-type]


def test_the_class_checks_as_strictly_as_flags() -> None:
    group = options_class(task(FULL))
    with pytest.raises(UsageError, match=r"^count: 10 is out of range"):
        group(count=10)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"^from: 'de' is not one of"):
        group(from_="de")  # type: ignore[call-arg]


def test_a_task_that_is_read_again_has_the_same_class_of_options() -> None:
    # A class is never given back: a server that made one for each request would grow for ever.
    assert options_class(catalog.find("classify")) is options_class(catalog.find("classify"))
