"""The root command: which commands there are, and how configuration reaches them.

Commands are listed here with a summary and imported only when called, so that `gptcli --help` and
a mistyped name cost nothing. Classes derive from Typer's, because loading on demand and defaults
from a file are decided while Click resolves a command. Left out: errors and exit codes, see
`gptcli.cli.app`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from gptcli import __version__, config, stages
from gptcli.cli import signals
from gptcli.cli.flags import with_options
from gptcli.errors import GptcliError

EPILOG = (
    "Every option can be set for good: in config.toml by its name (top_p = 0.9), or by an"
    " environment variable (GPTCLI_TOP_P=0.9). A flag wins over the environment, the environment"
    " over the file."
)
SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    # --top_k is --top-k; Click applies this to names of options, commands and choices only.
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


@dataclass(frozen=True)
class Entry:
    """A command in the list: `module` holds a function or a Typer app of the same `name`.

    Where it has a function `command`, that one gives the command of any name.
    """

    name: str
    module: str
    summary: str
    panel: str | None = None

    def target(self) -> Any:
        """Import the function or the Typer app."""
        module = import_module(self.module)
        if self.panel == TASKS:
            return module.command(self.name)
        return getattr(module, self.name.replace("-", "_"))


TASKS = "Tasks"  # the panel of commands that are made from a task's file


COMMANDS = (
    Entry("generate", "gptcli.cli.generate", "Continue a prompt."),
    Entry("chat", "gptcli.cli.chat", "Talk with a model."),
    Entry("summarize", "gptcli.cli.task", "Summarize a text.", TASKS),
    Entry("translate", "gptcli.cli.task", "Translate a text, sentence by sentence.", TASKS),
    Entry("answer", "gptcli.cli.task", "Answer a question, from a text or from memory.", TASKS),
    Entry("classify", "gptcli.cli.task", "Classify a text by the likelihood of labels.", TASKS),
    Entry("extract", "gptcli.cli.task", "Extract names from a text, with their places.", TASKS),
    Entry("code", "gptcli.cli.task", "Complete code.", TASKS),
    Entry("run", "gptcli.cli.task", "Run a task by its name."),
    Entry("tasks", "gptcli.cli.tasks", "List, show and make tasks."),
    Entry("batch", "gptcli.cli.batch", "Answer many prompts from files, durably."),
    Entry("score", "gptcli.cli.score", "Score texts: perplexity, surprisal, minimal pairs."),
    Entry("inspect", "gptcli.cli.inspect", "Show how a model reads a text."),
    Entry("models", "gptcli.cli.models", "Know and keep the models on this machine."),
    Entry("cache", "gptcli.cli.cache", "Show and remove the int8 weights kept on disk."),
    Entry("bench", "gptcli.cli.bench", "Measure start-up, memory and decoding speed."),
)


Presets = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""(flags as they were given) -> a command's own defaults, by field."""


class Command(TyperCommand):
    """A command that takes its defaults from the configuration file."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.groups: tuple[type, ...] = getattr(self.callback, "groups", ())
        self.table: str | None = getattr(self.callback, "table", None)
        self.presets: Presets = getattr(self.callback, "presets", lambda given: {})
        for param in self.params:
            if param.multiple:  # in the environment: one text a line, spaces belong to a text
                param.type.envvar_list_splitter = "\n"  # type: ignore[misc]

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, listed with the other general options."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = "General"
        return option

    def configure(self, ctx: Any, name: str, args: Sequence[str]) -> None:
        """Put the file's values where Click looks for defaults.

        Raises MissingInput or BadConfig, but not when help is asked for.
        """
        probe = typer.Context(self, info_name=name, parent=ctx, resilient_parsing=True)
        given = self.make_parser(probe).parse_args(list(args))[0]
        table = self.table or probe.command_path.split()[1]
        try:
            presets = self.presets(given)
            values = config.defaults(given.get("config"), table, self.groups, _tables, presets)
        except GptcliError:
            if not given.get("help") and not ctx.resilient_parsing:
                raise
            values = {}
        ctx.default_map = {name: values}
        for param in self.params:
            if param.name in values and getattr(param, "help", None):
                param.help = re.sub(r"\s*\\\[default: .*?\]", "", param.help)  # type: ignore[attr-defined]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; from here on a closed pipe is an error that the writer sees."""
        signals.surviving_closed_pipes()
        stages.mark("options")
        return super().invoke(ctx)


class Group(TyperGroup):
    """A group whose commands are configured when they are resolved."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments, ask for help."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Click does it, with the real command in place of a listed one."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, Listed):
            command = command.load()
        if isinstance(command, Command):
            command.configure(ctx, str(name), rest)
        return name, command, rest


def _tables() -> list[str]:
    """The names that a table of the configuration may have: of commands and of tasks."""
    from gptcli.tasks import catalog

    return [entry.name for entry in COMMANDS] + catalog.names()


class Root(Group):
    """The group that `COMMANDS` fills."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in COMMANDS:
            self.add_command(Listed(entry))


class Listed(TyperCommand):
    """A command as `--help` and completion list it, not imported yet."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.summary, rich_help_panel=entry.panel)
        self.entry = entry

    def load(self) -> Any:
        """Import the command. Returns a `Command`, or a `Group` of them."""
        target = self.entry.target()
        stages.mark("command line's imports")
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        register(single, self.entry.name, target)
        return typer.main.get_command(single)


def register(group: typer.Typer, name: str, command: Any) -> None:
    """Add a plain function to a Typer app as a configured command."""
    group.command(name, cls=Command, epilog=EPILOG)(with_options(command))


app = typer.Typer(
    cls=Root,
    rich_markup_mode="rich",
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gptcli {__version__}")
        raise typer.Exit


@app.callback()
def gptcli(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """GPT-2 in a shell."""


def run(args: Sequence[str]) -> int:
    """Run the command line; returns the exit code. Errors come out as they were raised."""
    command = typer.main.get_command(app)
    if "_GPTCLI_COMPLETE" in os.environ:  # the shell asks for completions
        command.main(list(args), prog_name="gptcli", standalone_mode=False)
        return 0
    try:
        with command.make_context("gptcli", list(args)) as ctx:
            code = command.invoke(ctx)
    except typer.Exit as leaving:
        return leaving.exit_code
    return code if isinstance(code, int) else 0
