"""What Rich draws: the spinner while a model loads, a line that changes, styled lines.

The only module that imports Rich, and only where it is needed: a script that generates text never
pays for it. What a model writes does not pass through Rich, which wraps lines, expands tabs and
reads brackets as markup; the drawings of `gptcli inspect` do, sanitised and as bare spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gptcli.cli import signals
from gptcli.cli.output import stderr
from gptcli.system.sanitizer import one_line, sanitize

WIDEST = 100  # columns of a guide


@contextmanager
def spinner(message: str) -> Iterator[Callable[[], None]]:
    """Show a spinner with `message` on stderr, which must be a terminal, inside the block.

    Gives what stops it early, for a progress bar to take its place.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with signals.cleaning(lambda: stderr.emit(stderr.ERASE)):
        if console.is_dumb_terminal:
            yield lambda: None
            return
        with console.status(Text(one_line(message), style="dim")) as shown:
            yield shown.stop


@contextmanager
def status() -> Iterator[Callable[[str], None] | None]:
    """Show a line on stderr that can be changed, if stderr is a terminal; else gives None."""
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
        console.status(Text("", style="dim")) as spinner,
    ):
        yield lambda text: spinner.update(Text(one_line(text), style="dim"))


def painted(lines: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Lines of (text, style) as a terminal takes them; nothing is wrapped, nothing is markup.

    The texts must be sanitised. Colours are those that the terminal has.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(force_terminal=True, legacy_windows=False)
    with console.capture() as captured:
        for line in lines:
            shown = Text.assemble(*line, no_wrap=True, end="\n")
            console.print(shown, soft_wrap=True, highlight=False)
    return captured.get()


def markdown(text: str) -> str:
    """A guide as a terminal takes it: as wide as the terminal is, but no wider than people read."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    plain = Theme({"markdown.code": "bold cyan"})  # Rich's own is on black
    console = Console(force_terminal=True, legacy_windows=False, theme=plain)
    console.width = min(console.width, WIDEST)
    shown = Markdown(sanitize(text), code_theme="ansi_dark", hyperlinks=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()
