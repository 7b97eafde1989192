"""One run of a command: its streams, how much it says on stderr, and the engine it opens.

The streams, and whether they are terminals, are values, so a test needs no terminal. Every command
opens its engine in the same way: a spinner while the model loads, then its notices, then a recorder
with --record. Not here: standard output is in `gptcli.cli.output.sink`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from gptcli.cli.output import render, stderr
from gptcli.errors import GptcliError, UsageError
from gptcli.inputs.prompt import ENDS_IN_SPACE
from gptcli.options import Load, Talk

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
    from gptcli.cli.recording import WrapEngine
    from gptcli.protocol import Engine

Stop = Callable[[], None]
"""() -> nothing: takes the spinner away early, for a progress bar to take its place."""


@dataclass(frozen=True)
class Session:
    """The streams of one run, and how much it says. A command has that of `Session.of`."""

    talk: Talk = field(default_factory=Talk)
    stdin: BinaryIO | None = None  # None when it is closed
    stdin_is_terminal: bool = False
    stderr_is_terminal: bool = False
    say: Callable[[str], None] = stderr.say  # one line on stderr, also with --quiet

    @classmethod
    def of(cls, talk: Talk) -> Session:
        """The session of this process."""
        stdin = stderr.stdin_bytes()
        return cls(talk, stdin, _is_terminal(stdin), stderr.stderr_is_terminal())

    @property
    def interactive(self) -> bool:
        """Whether a person is there: types on standard input, and reads stderr."""
        return self.stdin_is_terminal and self.stderr_is_terminal

    def note(self, *texts: str) -> None:
        """Say notices, but not with --quiet."""
        for text in () if self.talk.quiet else texts:
            self.say(stderr.NOTE + text)

    def note_last_space(self, text: str, tokenizer: Tokenizer | None) -> None:
        """Tell of a prompt's last space, where the tokenizer is not known or it does harm."""
        if text.endswith(" ") and (tokenizer is None or tokenizer.ends_in_lone_space(text)):
            self.note(ENDS_IN_SPACE)

    def detail(self, *texts: str) -> None:
        """Say texts with --verbose only."""
        if self.talk.verbose:
            self.note(*texts)

    def error(self, error: GptcliError | str) -> None:
        """Say what went wrong where the command goes on, or has others to come."""
        self.say(f"{stderr.ERROR}{error}")

    def waiting(self, message: str, shown: bool = True) -> AbstractContextManager[Stop | None]:
        """Show a spinner on a terminal inside the block; gives None where none is shown."""
        if not shown or self.talk.quiet or not self.stderr_is_terminal:
            return nullcontext()
        return render.spinner(message)

    def loading(self, load: Load) -> AbstractContextManager[Stop | None]:
        """The spinner while a model loads."""
        return self.waiting(f"loading {load.model or 'the model'}")

    def open_engine(
        self,
        load: Load,
        slots: int = 1,
        beams: bool = False,
        *,
        exact: bool = False,
        notices: bool = True,
        watch: WrapEngine | None = None,
        text: bool = True,
    ) -> Engine:
        """Open the engine under a spinner, and say its notices.

        With `exact` weights are float32 unless another data type is asked for by name. `notices`
        is False where the command says them itself, or not. `watch` is what
        `gptcli.cli.recording` gives. Without `text` the model needs no tokenizer.
        """
        from gptcli import engines

        if exact and load.dtype == "auto":
            load = replace(load, dtype="float32")
        with self.loading(load) as progress:
            engine = engines.open_engine(load, slots, beams, progress, text=text)
        engines.say_waits(engine, self.note)
        if notices:
            self.note(*engine.info.notices)
        self.detail(*engine.info.adapted.applied)
        return engine if watch is None else watch(engine, slots, beams)

    def agreed(self, question: str, command: str) -> bool:
        """Ask on the terminal. Raises UsageError, naming the command, where there is none."""
        if not self.stdin_is_terminal:
            why = "it asks first, and standard input is no terminal"
            raise UsageError(command, why, "Add -y.")
        import typer

        return typer.confirm(question, err=True)


def _is_terminal(stdin: BinaryIO | None) -> bool:
    with suppress(OSError, ValueError):
        return stdin is not None and stdin.isatty()
    return False
