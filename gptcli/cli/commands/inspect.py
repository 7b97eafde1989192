"""`gptcli inspect`: how a model reads a text.

Each command makes one view and gives it to `Outlets`, which writes it in every shape asked for. A
bare text is the command `text`. Cheap refusals come first, every file is opened next, and only then
is a model loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gptcli.checkpoints.tokenization.text.unknown import unknown_notices
from gptcli.cli.declaration import command
from gptcli.cli.mistakes.commands import view_meant
from gptcli.cli.output import heatmaps, pictures
from gptcli.cli.output.drawing import Canvas, StyledLine
from gptcli.cli.output.outlets import opened
from gptcli.cli.root import Group, register
from gptcli.cli.session import Session
from gptcli.errors import BadInput, UsageError
from gptcli.inputs.prompt import ENDS_IN_SPACE, read_prompt
from gptcli.inspection import page, reading
from gptcli.inspection.options import (
    AttentionOptions,
    AttributionOptions,
    LensOptions,
    NextOptions,
    ReadingOptions,
    ViewOutput,
)
from gptcli.inspection.views import AttentionView, View
from gptcli.options import Filters, Input, Load, Talk

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
    from gptcli.engines.gpt2.tracing import Tracer
    from gptcli.protocol import Engine

Text = Annotated[
    str | None,
    typer.Argument(
        help="The text to read; - is standard input. Piped text comes before it.",
        show_default=False,
    ),
]


def _exact(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whatever config.toml says for all commands: what is shown should be exact."""
    return {"dtype": "float32"}


class Default(Group):
    """A group that takes what is no command of its own as the text of its first command."""

    bare = "text"

    def expanded(self, args: list[str]) -> list[str]:
        """Put the name of the first command before its arguments, where it was left out."""
        named = bool(args) and (args[0] in self.commands or args[0] in ("-h", "--help"))
        alone = not args and sys.stdin is not None and sys.stdin.isatty()
        return args if named or alone else [self.bare, *args]


inspect = typer.Typer(
    cls=Default,
    help="Show how a model reads a text. A bare text, gptcli inspect TEXT, is read token by token.",
    add_completion=False,
    rich_markup_mode=None,
)


@command(presets=_exact)
def text(
    text: Text = None,
    *,
    input: Input,
    load: Load,
    view: ReadingOptions,
    report: ViewOutput,
    talk: Talk,
) -> None:
    """Colour each token by how much it was expected. This is what a bare text does.

    A text beyond the context is read in windows. With --html the page has all views of the text.
    """
    _refuse_server(load)
    session = Session.of(talk)
    if text and (meant := view_meant(text)):
        session.note(f"{text} is read as a text; for the view: gptcli inspect {meant} TEXT")
    asked = _asked(text, input, session)
    with opened(report) as outlets:
        engine = session.open_engine(load, exact=True)
        if engine.info.dtype != "float32":
            session.note(f"weights in {engine.info.dtype}: float32's numbers differ a little")
        found = reading.text_view(engine, asked, view.top, view.bos, view.stride)

        def draw(canvas: Canvas) -> list[StyledLine]:
            if view.table or not canvas.styled:
                return pictures.measured(found)
            return pictures.coloured(found, view.by == "rank")

        more = _inside(engine, asked, session, view.bos) if outlets.paged else ()
        outlets.write(found, draw, (found, *more), wrapped=not view.table)
    session.note(*outlets.notices, *_unknown(engine.tokenizer, asked))


@command(presets=_exact)
def next(
    text: Text = None,
    *,
    input: Input,
    load: Load,
    view: NextOptions,
    filters: Filters,
    report: ViewOutput,
    talk: Talk,
) -> None:
    """Show what may come next, as bars: by the model, and what the sampling settings make of it.

    generate reads a prompt alone; --no-bos shows the distribution that it draws from.
    """
    session = Session.of(talk)
    asked = _asked(text, input, session)
    with opened(report) as outlets:
        tracer = _tracer(load, session)
        session.note_last_space(asked, tracer.tokenizer)
        found = reading.next_view(tracer, asked, filters, view.top, input.on_overflow, view.bos)
        outlets.write(found, lambda canvas: pictures.following(found, canvas), (found,))
    session.note(*outlets.notices, *_unknown(tracer.tokenizer, asked))


@command(presets=_exact)
def attention(
    text: Text = None,
    *,
    input: Input,
    load: Load,
    view: AttentionOptions,
    report: ViewOutput,
    talk: Talk,
) -> None:
    """Show where each token looks, as a heat map: one head, or with --all a grid of heads.

    A row is the token that looks, a column what it looks at. A page, --html, has all heads.
    """
    session = Session.of(talk)
    asked = _asked(text, input, session)
    with opened(report) as outlets:
        tracer = _tracer(load, session)
        layer = view.layer if view.layer is not None or view.all else tracer.layers - 1
        layers = None if layer is None else [layer]
        heads = None if view.head is None else [view.head]
        found = reading.attention_view(tracer, asked, layers, heads, input.on_overflow, view.bos)

        def draw(canvas: Canvas) -> list[StyledLine]:
            return heatmaps.grid(found, canvas) if view.all else _map(found, canvas)

        shown: View = found
        if outlets.paged and not view.all:
            shown = reading.attention_view(
                tracer, asked, on_overflow=input.on_overflow, bos=view.bos
            )
        outlets.write(found, draw, (shown,))
    session.note(*outlets.notices, *_unknown(tracer.tokenizer, asked))


@command(presets=_exact)
def lens(
    text: Text = None,
    *,
    input: Input,
    load: Load,
    view: LensOptions,
    report: ViewOutput,
    talk: Talk,
) -> None:
    """Show what each layer would say next, were it the last: the logit lens."""
    session = Session.of(talk)
    asked = _asked(text, input, session)
    with opened(report) as outlets:
        tracer = _tracer(load, session)
        found = reading.lens_view(tracer, asked, view.top, input.on_overflow, view.bos)
        last = found.tokens[-1].index
        position = last if view.position is None else view.position
        if position > last:
            why = f"there is no {position}: the last token is {last}, counted from 0"
            raise UsageError("--position", why, f"Give 0 to {last}.")

        def draw(canvas: Canvas) -> list[StyledLine]:
            if view.all:
                return heatmaps.lens_grid(found, canvas)
            return pictures.lens(found, position - found.tokens[0].index, canvas)

        outlets.write(found, draw, (found,))
    session.note(*outlets.notices, *_unknown(tracer.tokenizer, asked))


@command(presets=_exact)
def attribution(
    text: Text = None,
    *,
    input: Input,
    load: Load,
    view: AttributionOptions,
    report: ViewOutput,
    talk: Talk,
) -> None:
    """Show how much each token speaks for the next one, or against it: gradients.

    What is explained are the log-odds of the next token. Scores are the gradient by a token's
    embedding times that embedding, or that gradient summed over the way from a text of
    the begin token alone (integrated gradients).
    """
    session = Session.of(talk)
    asked = _asked(text, input, session)
    with opened(report) as outlets:
        tracer = _tracer(load, session)
        found = reading.attribution_view(
            tracer, asked, view.target, view.method, view.steps, input.on_overflow, view.bos
        )
        outlets.write(found, lambda canvas: pictures.attribution(found, canvas), (found,))
    session.note(*outlets.notices, *_unknown(tracer.tokenizer, asked))


@command(presets=_exact)
def tokens(text: Text = None, *, input: Input, load: Load, report: ViewOutput, talk: Talk) -> None:
    """Show how a text is tokenised: ids, places and bytes. No model runs."""
    _refuse_server(load)
    for flag, asked_for in (("--svg", report.svg), ("--png", report.png)):
        if asked_for or report.shape == flag.removeprefix("--"):
            raise UsageError(flag, "tokens alone have no plot", "Leave it out.")
    from gptcli.checkpoints.resolve import resolve
    from gptcli.checkpoints.tokenization.loading import load_tokenizer

    session = Session.of(talk)
    asked = _asked(text, input, session)
    with opened(report) as outlets:
        with session.loading(load) as progress:
            found = resolve(load, progress)
        session.note(*found.notices)
        tokenizer = load_tokenizer(found.folder)
        view = reading.tokens_view(tokenizer, asked, found.name, found.revision)
        outlets.write(view, lambda canvas: pictures.tokens(view), (view,))
    session.note(*outlets.notices, *_unknown(tokenizer, asked))


COMMANDS: Sequence[tuple[str, Callable[..., None]]] = (
    ("text", text),
    ("next", next),
    ("attention", attention),
    ("lens", lens),
    ("attribution", attribution),
    ("tokens", tokens),
)
for _name, _command in COMMANDS:
    register(inspect, _name, _command)


def _asked(argument: str | None, input: Input, session: Session) -> str:
    """The text to read; what is to be said of it is said, but not of its last space."""
    asked = read_prompt(argument, input, session.stdin)
    session.note(*(notice for notice in asked.notices if notice != ENDS_IN_SPACE))
    return asked.text


def _refuse_server(load: Load) -> None:
    """Raises UsageError for --server: it gives no token ids, ranks or entropies."""
    if load.server is not None:
        why = "a server shows neither its tokens nor how it ranks them"
        raise UsageError("--server", why, "Leave it out: the model has to run here.")


def _tracer(load: Load, session: Session) -> Tracer:
    """What looks into the model, in float32 unless another data type is asked for."""
    _refuse_server(load)
    return reading.inside(session.open_engine(load, exact=True))


def _inside(engine: Engine, text: str, session: Session, bos: bool) -> tuple[View, ...]:
    """The views besides the text's for a page; none where the model cannot be looked into."""
    try:
        inside = reading.inside(engine)
        views: list[View] = [reading.next_view(inside, text, Filters(), bos=bos)]
        size = inside.layers * inside.heads * (engine.count(text) + bos) ** 2
        if size <= page.MAX_WEIGHT_BYTES:
            views.append(reading.attention_view(inside, text, bos=bos))
        else:
            session.note("attention is left out of the page: the text is too long")
        views.append(reading.lens_view(inside, text, bos=bos))
        return (*views, reading.attribution_view(inside, text, bos=bos))
    except (BadInput, UsageError) as error:
        session.note(f"the page shows the text alone: {error.message}")
        return ()


def _unknown(tokenizer: Tokenizer, text: str) -> Sequence[str]:
    """What to say of what the vocabulary lacks."""
    return unknown_notices(tokenizer.unknown(text), "the text")


def _map(view: AttentionView, canvas: Canvas) -> list[StyledLine]:
    """One head's map, or the mean of several."""
    layer = view.layers[0]
    heads = len(view.heads)
    which = f"head {view.heads[0]}" if heads == 1 else f"mean of {heads} heads"
    return heatmaps.heatmap(view, view.weights[0].mean(0), f"layer {layer}, {which}", canvas)
