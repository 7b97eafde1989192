"""Drawing with Rich: the spinner while a model loads, the progress line, styled lines, Markdown.

The only module that imports Rich, inside its functions, so that a script that generates text does
not pay for the import. The text of a model does not pass through Rich, which wraps lines, expands
tabs and reads brackets as markup. The drawings of `gptcli inspect` do, as sanitised plain spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gptcli.cli import signals
from gptcli.cli.output import stderr
from gptcli.system.sanitizer import one_line, sanitize

MAX_COLUMNS = 100  # of a guide


@contextmanager
def spinner(message: str) -> Iterator[Callable[[], None]]:
    """Show a spinner with `message` on stderr, which must be a terminal, inside the block.

    Gives a function that stops the spinner early, for a progress bar to take its place.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with signals.cleaning(lambda: stderr.emit(stderr.ERASE)):
        if console.is_dumb_terminal:
            yield lambda: None
            return
        with stderr.drawing(), console.status(Text(one_line(message), style="dim")) as shown:
            yield shown.stop


@contextmanager
def status() -> Iterator[Callable[[str], None] | None]:
    """Show a progress line on stderr. Gives a function that changes it; None without a terminal."""
    if not stderr.stderr_is_terminal():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield None
        return
    with (
        signals.cleaning(lambda: stderr.emit(stderr.ERASE)),
        stderr.drawing(),
        console.status(Text("", style="dim")) as spinner,
    ):
        yield lambda text: spinner.update(Text(one_line(text), style="dim"))


def painted(lines: Sequence[Sequence[tuple[str, str]]], always: bool = False) -> str:
    """Lines of (text, style) with escape sequences. Nothing is wrapped or read as markup.

    The texts must be sanitised. Colours are limited to those of the terminal; with `always` there
    are all 16 million, whatever the environment says of the terminal.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(
        force_terminal=True,
        legacy_windows=False,
        color_system="truecolor" if always else "auto",
        no_color=False if always else None,
    )
    with console.capture() as captured:
        for line in lines:
            shown = Text.assemble(*line, no_wrap=True, end="\n")
            console.print(shown, soft_wrap=True, highlight=False)
    return captured.get()


def markdown(text: str) -> str:
    """A guide with escape sequences, as wide as the terminal, at most MAX_COLUMNS."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    plain = Theme({"markdown.code": "bold cyan"})  # Rich's own is on black
    console = Console(force_terminal=True, legacy_windows=False, theme=plain)
    console.width = min(console.width, MAX_COLUMNS)
    shown = Markdown(sanitize(text), code_theme="ansi_dark", hyperlinks=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()
