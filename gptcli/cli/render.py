"""What a person sees: the spinner while a model loads, tables.

The only module that imports Rich, and only where it is needed: a script that generates text never
pays for it. Model text does not pass through Rich at all, which wraps lines, expands tabs and reads
brackets as markup. Left out: plain notices, see `gptcli.cli.streams`
and `gptcli.cli.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gptcli.cli import signals, streams
from gptcli.sanitizer import one_line

if TYPE_CHECKING:
    from gptcli.bench import Figure


@contextmanager
def waiting(message: str, quiet: bool) -> Iterator[Callable[[], None] | None]:
    """Show a spinner with `message` on stderr inside the block, if stderr is a terminal.

    Gives what stops it early, for a progress bar to take its place; None where none may be shown.
    """
    if quiet or not streams.stderr_is_terminal():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with signals.cleaning(lambda: streams.emit(streams.ERASE)):
        if console.is_dumb_terminal:
            yield lambda: None
            return
        with console.status(Text(one_line(message), style="dim")) as spinner:
            yield spinner.stop


@contextmanager
def status() -> Iterator[Callable[[str], None] | None]:
    """Show a line on stderr that can be changed, if stderr is a terminal; else gives None."""
    if not streams.stderr_is_terminal():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield None
        return
    with (
        signals.cleaning(lambda: streams.emit(streams.ERASE)),
        console.status(Text("", style="dim")) as spinner,
    ):
        yield lambda text: spinner.update(Text(one_line(text), style="dim"))


def figures(measured: Sequence[Figure], against: str | None) -> str:
    """A benchmark's table: medians with their spread, and the ratio of the pairs."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for title in ("gptcli", against, "ratio" if against else None):
        if title:
            table.add_column(title, justify="right", no_wrap=True)
    for figure in measured:
        cells = [f"{figure.name}, {figure.unit}", _spread(figure.ours)]
        if against:
            cells += [_spread(figure.theirs), _spread(figure.ratios)]
        table.add_row(*cells)
    console = Console(width=120, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")) + "\n"


def _spread(values: Sequence[float]) -> str:
    """Median, and the least and greatest where there are several."""
    from statistics import median

    if not values:
        return ""
    middle, low, high = (_number(f(values)) for f in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
