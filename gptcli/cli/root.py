"""The root command: how a command is found and loaded, and how configuration reaches it.

Classes derive from Typer's, because loading on demand and defaults from a file are decided while
Click resolves a command. Left out: which commands there are, see `gptcli.cli.registry`; errors and
exit codes, see `gptcli.cli.app`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from gptcli import __version__, config, stages
from gptcli.cli import registry, shells, signals, streams
from gptcli.cli.flags import with_options
from gptcli.cli.registry import Entry, entry_of, table_names
from gptcli.errors import GptcliError
from gptcli.specs import Options

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


INSTALL, SHOW = "--install-completion", "--show-completion"
AUTO = "auto"  # the shell that runs


Presets = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""(flags as they were given) -> a command's own defaults, by field."""


class Command(TyperCommand):
    """A command that takes its defaults from the configuration file."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.groups: tuple[type, ...] = getattr(self.callback, "groups", ())
        self.models: tuple[str, ...] = getattr(self.callback, "models", ())
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
            model = given.get("model") or os.environ.get("GPTCLI_MODEL")
            scope = config.Scope(table, self.groups, table_names, presets, model)
            values = config.defaults(given.get("config"), scope)
        except GptcliError:
            if not given.get("help"):
                raise
            values = {}
        ctx.default_map = {name: values}
        for param in self.params:
            if param.name in values and getattr(param, "help", None):
                param.help = re.sub(r"\s*\\\[default: .*?\]", "", param.help)  # type: ignore[attr-defined]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; from here on a closed pipe is an error that the writer sees."""
        for name in self.models:  # an alias of the user's own: behind this only what it stands for
            if ctx.params.get(name):
                ctx.params[name] = config.target(ctx.params[name], ctx.params.get("config"))
        signals.surviving_closed_pipes()
        stages.mark("options")
        return super().invoke(ctx)


class Unconfigured(Command):
    """A command that takes no defaults from the file, and so works however broken that is."""

    def configure(self, ctx: Any, name: str, args: Sequence[str]) -> None:
        """Leave the file alone."""


class Group(TyperGroup):
    """A group whose commands are configured when they are resolved."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments, ask for help."""
        return super().parse_args(ctx, self.expanded(args) or ["--help"])

    def expanded(self, args: list[str]) -> list[str]:
        """The arguments with what may be left out of them: a group can have a default command."""
        return args

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Click does it, with the real command in place of a listed one."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, Listed):
            command = command.load()
        if isinstance(command, Command) and not ctx.resilient_parsing:  # completion
            command.configure(ctx, str(name), rest)
        return name, command, rest


def groups_of(name: str) -> tuple[type[Options], ...]:
    """The groups of options of a command or a task, or of all commands of a group.

    Raises UsageError and BadTask, as `Entry.target`.
    """
    command = Listed(entry_of(name)).load()
    members = command.commands.values() if isinstance(command, Group) else [command]
    return tuple(kind for member in members for kind in getattr(member, "groups", ()))


class Root(Group):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in registry.COMMANDS:
            self.add_command(Listed(entry))

    def expanded(self, args: list[str]) -> list[str]:
        """An option that takes the name of a shell may stand alone."""
        if args and args[0] in (INSTALL, SHOW) and (len(args) == 1 or args[1].startswith("-")):
            return [args[0], AUTO, *args[1:]]
        return args


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
        register(single, self.entry.name, target, getattr(target, "command", Command))
        return typer.main.get_command(single)


def register(group: typer.Typer, name: str, command: Any, kind: type[Command] = Command) -> None:
    """Add a plain function to a Typer app as a command, by default a configured one."""
    group.command(name, cls=kind, epilog=EPILOG)(with_options(command))


app = typer.Typer(
    cls=Root,
    rich_markup_mode="rich",
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
    add_completion=False,  # Typer's; see gptcli.cli.completion
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gptcli {__version__}")
        raise typer.Exit


def _show_completion(asked: str | None) -> None:
    if asked is not None:
        typer.echo(shells.script(shells.running(SHOW) if asked == AUTO else asked), nl=False)
        raise typer.Exit


def _install_completion(asked: str | None) -> None:
    if asked is None:
        return
    shell = shells.running(INSTALL) if asked == AUTO else asked
    path, start = shells.install(shell)
    typer.echo(path)
    by = f", by a line added to {start}" if start else ""
    streams.note(f"{shell} completes gptcli from its next start{by}")
    raise typer.Exit


def _shell(flag: str, help: str, callback: Callable[[str | None], None]) -> Any:
    """An option that takes the name of a shell, by default the one that runs."""
    return typer.Option(
        flag,
        metavar="[SHELL]",
        help=help,
        is_eager=True,
        callback=callback,
        show_default=False,
        autocompletion=lambda: list(shells.SHELLS),
    )


Shell = Literal["auto", "bash", "zsh", "fish"]


@app.callback()
def gptcli(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
    install_completion: Annotated[
        Shell | None,
        _shell(INSTALL, "Let bash, zsh or fish complete commands and names.", _install_completion),
    ] = None,
    show_completion: Annotated[
        Shell | None, _shell(SHOW, "Print the script that does so.", _show_completion)
    ] = None,
) -> None:
    """GPT-2 in a shell."""


def run(args: Sequence[str]) -> int:
    """Run the command line; returns the exit code. Errors come out as they were raised."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("gptcli", list(args)) as ctx:
            code = command.invoke(ctx)
    except typer.Exit as leaving:
        return leaving.exit_code
    return code if isinstance(code, int) else 0
