"""The root command: how a command is found and loaded, and how configuration reaches it.

The classes derive from Typer's: Click imports a command, and gets the file's defaults, while it
resolves the command's name. The list of commands is in `gptcli.cli.registry`, the page of --help in
`gptcli.cli.help_page`, errors and exit codes are in `gptcli.cli.main`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from gptcli import __version__, config
from gptcli.cli import help_page, registry, signals
from gptcli.cli.completion import shells
from gptcli.cli.declaration import declaration_of
from gptcli.cli.defaults import foreign_variables, scope_of
from gptcli.cli.flags import with_options
from gptcli.cli.output import stderr
from gptcli.cli.registry import CommandEntry
from gptcli.errors import GptcliError
from gptcli.options.formats import suffix_of
from gptcli.options.registry import declared as options
from gptcli.system import stages

SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    # --top_k is --top-k; Click applies this to names of options, commands and choices only.
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


INSTALL, SHOW = "--install-completion", "--show-completion"
AUTO = "auto"  # the shell that runs


class Command(TyperCommand):
    """A command that takes its defaults from the configuration file and from variables."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.declared = declaration_of(self.callback)
        groups = self.declared.groups.values()
        self.specs = {
            option.item.name: replace(option.spec, rare=option.spec.rare and not kind.all_shown)
            for kind in groups
            for option in options(kind)
        }
        self.from_file: frozenset[str] = frozenset()  # the fields that it sets
        for param in self.params:
            if param.multiple:  # in the environment: one text a line, spaces belong to a text
                param.type.envvar_list_splitter = "\n"  # type: ignore[misc]

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters; where some are rare, --help-all shows them."""
        rare = any(spec.rare for spec in self.specs.values())
        found: list[Any] = super().get_params(ctx)
        return [*found, help_page.everything()] if rare else found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page of --help."""
        formatter.write(help_page.page(self, ctx, everything=False))

    def configure(self, ctx: Any, name: str, args: Sequence[str]) -> None:
        """Put the file's values where Click looks for defaults, and pass over foreign variables.

        Raises MissingInput or BadConfig, but not when help is asked for.
        """
        foreign = foreign_variables(self.declared)
        for param in self.params:
            if param.name in foreign:
                param.envvar = None
        if not self.declared.configured:
            return
        probe = typer.Context(self, info_name=name, parent=ctx, resilient_parsing=True)
        given = self.make_parser(probe).parse_args(list(args))[0]
        model = given.get("model") or os.environ.get("GPTCLI_MODEL")
        try:
            scope = scope_of(self.declared, probe.command_path.split()[1], model, given)
            values = config.defaults(given.get("config"), scope)
        except GptcliError:
            if not given.get("help") and not given.get("help_all"):
                raise
            values = {}
        ctx.default_map = {name: values}
        self.from_file = frozenset(values)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; from here on a closed pipe is an error that the writer sees."""
        for name in self.declared.naming:  # an alias: behind this only what it stands for
            if ctx.params.get(name):
                ctx.params[name] = config.target(ctx.params[name], ctx.params.get("config"))
        for name, spec in self.specs.items():
            if not self._means_something(ctx, name, self.specs.keys() & {*spec.needed}):
                ctx.params[name] = self._default(name)
        self._yield_to_suffix(ctx)
        stderr.choose_color(ctx.params.get("color") or "auto")
        signals.surviving_closed_pipes()
        stages.mark("options")
        return super().invoke(ctx)

    def _yield_to_suffix(self, ctx: Any) -> None:
        """Drop a --format of a file or variable where an --output that was typed has a suffix."""
        if {"format", "output"} <= self.specs.keys() and suffix_of(ctx.params["output"]):
            typed = [
                ctx.get_parameter_source(name).name == "COMMANDLINE"
                for name in ("output", "format")
            ]
            if typed == [True, False]:
                ctx.params["format"] = self._default("format")

    def _means_something(self, ctx: Any, name: str, needed: Collection[str]) -> bool:
        """Whether an option is a flag's, or has beside it one of those that it needs."""
        if not needed or ctx.get_parameter_source(name).name == "COMMANDLINE":
            return True
        return any(ctx.params[one] != self._default(one) for one in needed)

    def _default(self, name: str) -> Any:
        return next(param.default for param in self.params if param.name == name)


class Group(TyperGroup):
    """A group whose commands are configured when they are resolved."""

    bare: ClassVar[str | None] = None  # the command that is meant where none is named

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page of --help."""
        formatter.write(help_page.overview(self, ctx))

    def real(self, ctx: Any, name: str) -> Any:
        """A command, imported if it was only listed."""
        found = self.get_command(ctx, name)
        return found.load() if isinstance(found, LazyCommand) else found

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments, ask for help."""
        return super().parse_args(ctx, self.expanded(args) or ["--help"])

    def expanded(self, args: list[str]) -> list[str]:
        """The arguments with what may be left out of them: a group can have a default command."""
        return args

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Click does it, with the real command in place of a listed one."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, LazyCommand):
            command = command.load()
        if isinstance(command, Command) and not ctx.resilient_parsing:  # completion
            command.configure(ctx, str(name), rest)
        return name, command, rest


class Root(Group):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in registry.COMMANDS:
            self.add_command(LazyCommand(entry))

    def expanded(self, args: list[str]) -> list[str]:
        """An option that takes the name of a shell may stand alone."""
        if args and args[0] in (INSTALL, SHOW) and (len(args) == 1 or args[1].startswith("-")):
            return [args[0], AUTO, *args[1:]]
        return args


class LazyCommand(TyperCommand):
    """A command as `--help` and completion list it, not imported yet."""

    def __init__(self, entry: CommandEntry) -> None:
        super().__init__(entry.name, help=entry.summary, rich_help_panel=entry.panel)
        self.entry = entry

    def load(self) -> Any:
        """Import the command. Returns a `Command`, or a `Group` of them."""
        target = self.entry.target()
        stages.mark("command line's imports")
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        register(single, self.entry.name, target)
        return typer.main.get_command(single)


def register(group: typer.Typer, name: str, command: Any) -> None:
    """Add a plain function to a Typer app as a command."""
    group.command(name, cls=Command)(with_options(command))


app = typer.Typer(
    cls=Root,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
    add_completion=False,  # Typer's; see gptcli.cli.completion.complete
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
    stderr.note(f"{shell} completes gptcli from its next start{by}")
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
