"""Every option of every command, set at every place: it arrives where it should, nothing breaks.

Which commands and options there are is computed from the registry, so a new one is in these tests
without a line here. A dry call parses the command line and resolves the configuration; where the
command's body would begin, its arguments are noted instead.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from gptcli.cli import flags, option_groups, registry, root
from gptcli.config.checks import taker
from gptcli.config.keys import of_variable
from gptcli.errors import BadTask, GptcliError, UsageError
from gptcli.options.registry import TASK_GROUPS, Declared, options_of, taken
from gptcli.options.spec import Options, key_of, longs_of, spec_of
from gptcli.tasks.definition import schema

every_of_registry = option_groups.every
SPECIAL: dict[str, Any] = {
    "server": "http://localhost:1/v1",
    "against": "transformers",
    "batch_size": "4",
    "task": "summarize",
    "logit_bias": ["50256=-1"],
    "cors_origin": ["https://notebook.example"],
}
NUMBERS = (2, 3, 1, 0.5, 0)
CLI = Path(root.__file__).parent
Layout = Mapping[str, Mapping[str, Any]]
"""What config.toml holds: option and value by table; the top level is the table without a name."""


@dataclass(frozen=True)
class Leaf:
    """A command that can be called: its words, and what its arguments need."""

    words: tuple[str, ...]
    needed: tuple[str, ...]
    command: Any

    @property
    def table(self) -> str:
        return self.command.declared.table or self.words[0]

    @property
    def own(self) -> dict[str, tuple[Declared, ...]]:
        return options_of(self.command.declared.groups.values())


def found(words: tuple[str, ...], command: Any) -> Iterator[Leaf]:
    command = command.load() if isinstance(command, root.LazyCommand) else command
    if not isinstance(command, root.Group):
        needed = tuple("x" for param in command.params if param.required)
        yield Leaf(words, needed, command)
        return
    ctx = typer.Context(command)
    for name in command.list_commands(ctx):
        yield from found((*words, name), command.get_command(ctx, name))


@cache
def leaves() -> tuple[Leaf, ...]:
    return tuple(found((), typer.main.get_command(root.app)))


@cache
def groups_of_all() -> tuple[type[Options], ...]:
    """The groups of all commands, computed once and not in each of a thousand dry calls."""
    return tuple(every_of_registry())


# Which names there are: known when tests are collected, without a command's import.
NAMES = [entry.name for entry in registry.COMMANDS]


def every_group() -> list[type[Options]]:
    return list(dict.fromkeys(kind for leaf in leaves() for kind in kinds(leaf)))


def kinds(leaf: Leaf) -> tuple[type[Options], ...]:
    return tuple(leaf.command.declared.groups.values())


# Values


def sample(name: str, option: Declared) -> Any:
    """A value for the file that the option takes, and that is not its default; None if none is."""
    hint = option.hint
    inner = [kind for kind in get_args(hint) if kind is not type(None)]
    if get_origin(hint) not in (Literal, tuple) and inner:
        hint = inner[0]
    if hint is bool:
        choices: Sequence[Any] = [True, False]
    elif get_origin(hint) is Literal:
        choices = get_args(hint)
    elif get_origin(hint) is tuple:
        choices = [SPECIAL.get(name, ["x"])]
    elif hint is str:
        choices = [SPECIAL.get(name, "x")]
    else:
        choices = NUMBERS
    good = [
        item for item in choices if item != option.item.default and taker((), name, item, [option])
    ]
    return good[0] if good else None


def rounds(tables: Mapping[str, Sequence[type[Options]]]) -> list[Layout]:
    """Layouts that together set every option of every table, each by every declaration of it.

    What cannot be set beside each other is in different ones.
    """
    made: list[dict[str, dict[str, Any]]] = []
    for table, kinds in tables.items():
        for name, value in samples(kinds):
            for layout in [*made, fresh := {}]:
                mine = {**layout.get(table, {}), name: value}
                if name not in layout.get(table, {}) and goes(mine, kinds):
                    layout[table] = mine
                    break
            else:
                pytest.fail(f"{name} = {value!r} can be set nowhere")
            if fresh:
                made.append(fresh)
    return made


def samples(kinds: Sequence[type[Options]]) -> list[tuple[str, Any]]:
    """Options and values, every declaration of each; those that need another come last."""
    pairs = [
        (option.spec.needs is not None, name, sample(name, option))
        for name, options in options_of(kinds).items()
        for option in options
    ]
    wanted = [(name, value) for _, name, value in sorted(pairs, key=lambda pair: pair[0])]
    return [(name, value) for name, value in wanted if value is not None]


def goes(values: Mapping[str, Any], kinds: Sequence[type[Options]]) -> bool:
    """Whether the values can be set beside each other, in all groups that have some."""
    for kind in kinds:
        given = {}
        for option in options_of([kind]).values():
            name = key_of(option[0].item.name)
            if name in values and taker((), name, values[name], option):
                given[option[0].item.name] = converted(values[name], option[0])
        try:
            kind(**given)
        except UsageError:
            return False
    return True


def converted(value: Any, option: Declared) -> Any:
    """A value of the file as the command gets it."""
    if isinstance(value, list):
        return tuple(option.spec.parse(text) if option.spec.parse else text for text in value)
    return str(value) if option.spec.digits else value


def toml(layout: Layout) -> str:
    lines = []
    for table in sorted(layout):  # the top level first
        lines += [f"[{table}]"] if table else []
        lines += [f"{name} = {json.dumps(value)}" for name, value in layout[table].items()]
    return "\n".join(lines) + "\n"


# Calls

Dry = Callable[[Leaf], dict[str, Any]]


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dry:
    """A function that calls a command up to its body, and gives the value of every option."""
    seen: dict[str, Any] = {}

    def note(command: Any, arguments: Mapping[str, Any]) -> None:
        seen.clear()
        for value in arguments.values():
            if isinstance(value, Options):
                seen.update({key_of(name): held for name, held in vars(value).items()})

    monkeypatch.setattr(flags, "call", note)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(option_groups, "every", lambda: iter(groups_of_all()))

    def dry(leaf: Leaf) -> dict[str, Any]:
        seen["called"] = False
        try:
            root.run([*leaf.words, *leaf.needed])
        except GptcliError as error:
            pytest.fail(f"{' '.join(leaf.words)}: {error}")
        assert "called" not in seen
        return dict(seen)

    return dry


def expected(
    leaf: Leaf, before: Mapping[str, Any], values: Mapping[str, Any], presets: Mapping[str, Any]
) -> dict[str, Any]:
    """What a command gets where a file or variables hold some values: those that it takes."""
    after = dict(before)
    for name, [option] in leaf.own.items():
        if name in values and taker((), name, values[name], [option]) and name not in presets:
            after[name] = converted(values[name], option)
    for name, [option] in leaf.own.items():
        needed = [other for other in option.spec.needed if other in leaf.own]
        if needed and all(after[other] == before[other] for other in needed):
            after[name] = before[name]
    return after


def helps(leaf: Leaf, capfd: pytest.CaptureFixture[str]) -> None:
    assert root.run([*leaf.words, "--help"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"Usage: gptcli {' '.join(leaf.words)} [OPTIONS]")
    assert err == ""


@pytest.mark.parametrize("place", ["top", "table"])
def test_every_option_can_be_set_in_the_file(
    place: str,
    dry: Dry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = {leaf.words: dry(leaf) for leaf in leaves()}
    if place == "top":
        layouts = rounds({"": every_group()})
    else:
        tables: dict[str, list[type[Options]]] = defaultdict(list)
        for leaf in leaves():
            if leaf.command.declared.configured:
                tables[leaf.table] += kinds(leaf)
        layouts = rounds(tables)
    set_ = {(table, name) for layout in layouts for table in layout for name in layout[table]}
    assert len(set_) > 90
    path = tmp_path / "c.toml"
    monkeypatch.setenv("GPTCLI_CONFIG", str(path))
    for turn, layout in enumerate(layouts):
        path.write_text(toml(layout), encoding="utf-8")
        for leaf in leaves():
            values = layout.get("" if place == "top" else leaf.table, {})
            presets = leaf.command.declared.presets({}) if place == "top" else {}
            if not leaf.command.declared.configured:
                values = {}
            wanted = expected(leaf, before[leaf.words], values, presets)
            assert dry(leaf) == wanted | {"config": str(path)}, leaf.words
            if turn == 0:
                helps(leaf, capfd)


def test_every_option_can_be_set_by_a_variable(
    dry: Dry, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {leaf.words: dry(leaf) for leaf in leaves()}
    for turn, layout in enumerate(rounds({"": every_group()})):
        texts = {name: as_variable(value) for name, value in layout[""].items()}
        with monkeypatch.context() as set_:
            for name, text in texts.items():
                set_.setenv(f"GPTCLI_{name.upper()}", text)
            for leaf in leaves():
                values = {
                    name: of_variable(texts[name], option.hint)
                    for name, [option] in leaf.own.items()
                    if name in texts
                }
                assert dry(leaf) == expected(leaf, before[leaf.words], values, {}), leaf.words
                if turn == 0:
                    helps(leaf, capfd)


def as_variable(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


# One rule for what is meant for several commands

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of the tests."""
    monkeypatch.setenv("GPTCLI_CONFIG", str(tmp_path / "c.toml"))
    return tmp_path / "c.toml"


@pytest.mark.parametrize(
    "line",
    [
        *("batch_size = 8", 'batch_size = "auto"', 'record_prompt = "hash"', "workers = 2"),
        *('format = "csv"', 'format = "tsv"', 'to = "de"', "top = 500", 'input_format = "csv"'),
        *("force = true", 'only = "start"', 'set = ["to=de"]', 'example = ["a = b"]'),
    ],
)
def test_an_option_of_some_command_at_the_top_breaks_no_other(
    line: str, dry: Dry, file: Path
) -> None:
    file.write_text(line)
    for leaf in leaves():
        dry(leaf)


def test_a_value_reaches_every_command_that_takes_it(dry: Dry, file: Path) -> None:
    by_name = {" ".join(leaf.words): leaf for leaf in leaves()}
    file.write_text("batch_size = 8")
    sizes = [dry(by_name[name])["batch_size"] for name in ("translate", "score", "batch")]
    assert sizes == [8, 8, "8"]
    file.write_text('batch_size = "auto"')
    sizes = [dry(by_name[name])["batch_size"] for name in ("translate", "score", "batch")]
    assert sizes == [16, 16, "auto"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("batch_size = 2000", "batch_size: 2000 is out of range"),
        ('batch_size = "many"', "batch_size: 'many' is not a whole number"),
        ("record_promt = 1", "record_promt: there is no such option. Did you mean record_prompt?"),
        ("yes = true", "yes: it can only be a flag"),
        ('server = "nowhere"', "does not begin with http"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "translate", "batch", "score"])
def test_a_value_that_no_command_takes_is_an_error_for_all(
    command: str, line: str, told: str, main_in: Main, file: Path
) -> None:
    file.write_text(line)
    code, out, err = main_in(command, "Once")
    assert (code, out) == (65, "")
    assert f"{file}:1: " in err
    if not (command == "batch" and "batch_size" in line):  # its own rule is told
        assert told in err


def test_commands_that_share_a_table_take_each_their_own(dry: Dry, file: Path) -> None:
    file.write_text('[inspect]\nby = "probability"\nlayer = 2\ntop = 500')
    by_name = {leaf.words[-1]: leaf for leaf in leaves() if leaf.words[0] == "inspect"}
    assert dry(by_name["text"])["by"] == "probability"
    assert dry(by_name["attention"])["layer"] == 2
    assert (dry(by_name["text"])["top"], dry(by_name["next"])["top"]) == (5, 500)


def test_what_is_wrong_in_a_commands_own_table_is_an_error(main_in: Main, file: Path) -> None:
    for text in ("[generate]\nbatch_size = 8", '[translate]\nbatch_size = "auto"'):
        file.write_text(text)
        command = text[1 : text.index("]")]
        code, _, err = main_in(command, "Once")
        assert (code, f"{file}:2: [{command}] batch_size" in err) == (65, True)


def test_a_variable_that_no_command_takes_is_an_error(
    main_in: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_BATCH_SIZE", "2000")
    code, _, err = main_in("translate", "Once")
    assert (code, "--batch-size (or GPTCLI_BATCH_SIZE)" in err) == (2, True)


def test_what_needs_another_option_is_an_error_only_as_a_flag(
    dry: Dry, main_in: Main, file: Path
) -> None:
    [batch] = [leaf for leaf in leaves() if leaf.words == ("batch",)]
    file.write_text('[batch]\nset = ["to=de"]')
    assert dry(batch)["set"] == ()
    file.write_text('[batch]\nset = ["to=de"]\ntask = "translate"')
    assert dry(batch)["set"] == ("to=de",)


def test_a_flag_without_what_it_needs_is_an_error(main_in: Main) -> None:
    assert main_in("batch", "--set", "to=de")[0] == 2


# A task's own options

TASK = """
description = "Rewrite a text."
prompt = "{{input}}"
[options.{name}]
type = "{kind}"
help = "How."
"""


def names_of_a_task() -> set[str]:
    """All that the command of a task without options of its own has: parameters and flags."""
    [command] = [leaf.command for leaf in leaves() if leaf.words == ("code",)]
    own = options_of([command.declared.groups["own"]])
    params = [*command.get_params(typer.Context(command))]
    names = {key_of(param.name) for param in params} - set(own)
    options = [option for declared in own.values() for option in declared]
    flags_ = {flag for param in params for flag in (*param.opts, *param.secondary_opts)}
    longs = {flag for flag in flags_ if flag.startswith("--")}
    longs -= {flag for option in options for flag in longs_of(option.item)}
    return names | {flag[2:].replace("-", "_") for flag in longs}


def test_no_option_of_a_task_has_the_name_of_anything_its_command_has() -> None:
    names = names_of_a_task()
    assert {"record", "record_prompt", "dry_run", "batch_size", "text", "help", "no_echo"} <= names
    for name in names:
        with pytest.raises(BadTask, match="the name is taken"):
            schema.parse(TASK.format(name=name, kind="text"), "mine", "mine.toml")
    assert names <= taken()


def test_no_switch_of_a_task_has_the_negation_of_another_flag() -> None:
    for name in names_of_a_task():
        if name.startswith("no_"):
            with pytest.raises(BadTask, match="is taken"):
                schema.parse(TASK.format(name=name[3:], kind="flag"), "mine", "mine.toml")


def test_a_task_with_an_option_record_is_a_bad_task(
    main_in: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gptcli" / "tasks").mkdir(parents=True)
    path = tmp_path / "gptcli" / "tasks" / "mine.toml"
    path.write_text(TASK.format(name="record", kind="text"))
    code, out, _ = main_in("tasks", "list")
    assert (code, "error: " in out, "record: the name is taken" in out) == (0, True, True)
    code, _, err = main_in("run", "mine", "x")
    assert code == 65
    assert "record: the name is taken. Choose another name for the option" in err


def test_a_tasks_command_has_the_groups_that_its_names_are_computed_from() -> None:
    tasks = [leaf for leaf in leaves() if "own" in leaf.command.declared.groups]
    assert len(tasks) >= 12
    for leaf in tasks:
        assert dict(leaf.command.declared.groups) == {
            "own": leaf.command.declared.groups["own"],
            **TASK_GROUPS,
        }


# One registry


def test_groups_are_those_of_the_commands() -> None:
    for name in NAMES:
        mine = {kind for leaf in leaves() if leaf.words[0] == name for kind in kinds(leaf)}
        plain = {kind.__name__ for kind in mine}
        assert name == "run" or {kind.__name__ for kind in option_groups.groups_of(name)} == plain


def test_an_option_of_a_command_is_declared_in_a_group() -> None:
    for leaf in leaves():
        for param in leaf.command.params:
            if param.param_type_name == "option":
                assert param.name in leaf.command.specs, (leaf.words, param.name)


def test_a_flag_is_declared_once_or_says_why_not() -> None:
    declared: dict[str, dict[int, Any]] = defaultdict(dict)
    for kind in every_group():
        if kind.__name__ != "TaskOptions":  # declared by their files
            for item in fields(kind):  # type: ignore[arg-type]
                for flag in longs_of(item):
                    declared[flag][id(item)] = spec_of(item)
    again = {
        flag: len(specs)
        for flag, specs in declared.items()
        if sum(spec.redeclares is None for spec in specs.values()) > 1
    }
    assert again == {}
    alone = [
        flag
        for flag, specs in declared.items()
        if len(specs) == 1 and next(iter(specs.values())).redeclares
    ]
    assert alone == []


def test_a_shared_option_has_the_same_type_wherever_it_is_used() -> None:
    types: dict[int, set[str]] = defaultdict(set)
    for kind in every_group():
        for [option] in options_of([kind]).values():
            types[id(option.item)].add(str(option.hint))
    assert all(len(hints) == 1 for hints in types.values())


def test_modules_of_the_command_line_do_not_import_each_other_in_a_circle() -> None:
    paths = {dotted(path): path for path in CLI.rglob("*.py")}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in imported(paths[name]) & paths.keys():
                visit(other, (*way, name))
            done.add(name)

    for name in paths:
        visit(name, ())


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(CLI.parent.parent).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """What a module imports, inside of functions, too, but not what only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in unseen:
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


# Pages of help


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """A function that gives the lines of a page, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def shown(*words: str) -> list[str]:
        assert root.run(words) == 0
        return capfd.readouterr().out.splitlines()

    return shown


def test_the_help_of_generate_fits_a_screen_and_has_examples(shown) -> None:
    page = shown("generate", "--help")
    assert len(page) <= 60
    assert sum(line.startswith("  ") and "gptcli generate" in line for line in page) == 2
    text = "\n".join(page)
    assert all(flag in text for flag in ("--model", "--temperature", "--seed", "--json", "-o"))
    assert "--help-all" in text
    assert "--typical-p" not in text


def test_no_page_of_help_cuts_a_flag_or_is_too_wide(shown) -> None:
    for leaf in leaves():
        rare = any(spec.rare for spec in leaf.command.specs.values())
        page = shown(*leaf.words, "--help-all" if rare else "--help")
        text = "\n".join(page)
        assert "…" not in text
        assert "[default: " not in "".join(spec.help for spec in leaf.command.specs.values())
        assert max(map(len, page)) <= 80 or "http" in text
        for kind in kinds(leaf):
            for item in fields(kind):  # type: ignore[arg-type]
                assert all(flag in text for flag in longs_of(item)), (leaf.words, item.name)


def test_rare_options_are_left_out_of_help_alone(shown) -> None:
    for leaf in leaves():
        page = "\n".join(shown(*leaf.words, "--help"))
        for name, spec in leaf.command.specs.items():
            assert (
                (f" {spec.flags[-1].split('/')[0]}" in page) or spec.rare or len(spec.flags) > 1
            ), name
            if spec.rare:
                assert f"  {spec.flags[-1].split('/')[0]} " not in page


def test_the_help_of_inspect_lists_what_a_bare_text_takes(shown) -> None:
    page = "\n".join(shown("inspect", "--help"))
    assert "Without a command: gptcli inspect [OPTIONS] [TEXT]" in page
    assert all(flag in page for flag in ("--by", "--top", "--model", "--html"))


def test_a_list_that_needs_no_name_shows_its_options(shown) -> None:
    assert "--json" in "\n".join(shown("models", "--help"))
