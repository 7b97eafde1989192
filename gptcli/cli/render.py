"""What a person sees: the spinner while a model loads, tables, drawings.

The only module that imports Rich, and only where it is needed: a script that generates text never
pays for it. What a model writes does not pass through Rich, which wraps lines, expands tabs and
reads brackets as markup; the drawings of `gptcli inspect` do, sanitised and as bare spans. Left
out: plain notices, see `gptcli.cli.streams` and `gptcli.cli.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gptcli.cli import signals, streams
from gptcli.sanitizer import one_line

if TYPE_CHECKING:
    from gptcli.bench.figures import Figure, Runs


@contextmanager
def spinner(message: str) -> Iterator[Callable[[], None]]:
    """Show a spinner with `message` on stderr, which must be a terminal, inside the block.

    Gives what stops it early, for a progress bar to take its place.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with signals.cleaning(lambda: streams.emit(streams.ERASE)):
        if console.is_dumb_terminal:
            yield lambda: None
            return
        with console.status(Text(one_line(message), style="dim")) as shown:
            yield shown.stop


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


def figures(measured: Sequence[Figure]) -> str:
    """A benchmark's table, a line an engine: medians with their spread, ratios of the pairs."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shown: list[tuple[Figure, Runs]] = [
        (figure, runs) for figure in measured for runs in (figure.ours, *figure.theirs)
    ]
    columns = [("", "left"), ("", "left"), ("median", "right")]
    against = any(figure.theirs for figure in measured)
    limited = any(runs.share is not None for _, runs in shown)
    columns += [("ours / theirs", "right")] if against else []
    columns += [("of the limit", "right")] if limited else []
    table = Table(box=SIMPLE_HEAD)
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for figure, runs in shown:
        ours = runs is figure.ours
        cells = [figure.title if ours else "", runs.engine, _spread(runs.values)]
        cells += [_spread([] if ours else figure.ratios(runs), "" if ours else "-")] * against
        cells += ["" if runs.share is None else f"{runs.share:.0%}"] * limited
        table.add_row(*cells)
    console = Console(width=200, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")) + "\n"


def _spread(values: Sequence[float], nothing: str = "-") -> str:
    """Median, and the least and greatest where there are several."""
    from statistics import median

    from gptcli.bench.figures import number

    if not values:
        return nothing
    middle, low, high = (number(f(values)) for f in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"
