"""Turns of a conversation, and the two templates that any GPT-2 understands.

A template is a pure function from turns to one prompt, and each prompt goes on exactly where the
last one and its reply ended: then an engine that still holds those tokens computes only the new
ones. That is why a turn keeps what the model wrote letter for letter beside what is shown of it.
Not here: a checkpoint's own template is in `gptcli.chat_templates.own`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gptcli.checkpoints.tokenization.roles import END_OF_TEXT
from gptcli.errors import UsageError

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """What one side said: `content` as it is shown, `written` as the model wrote it."""

    role: Role
    content: str
    written: str | None = None  # None for the user, and for a reply that only its content is known


class Template(Protocol):
    """How turns become a prompt that ends where the model is to reply."""

    @property
    def name(self) -> str:
        """What it is called in `--template` and in a saved conversation."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end a reply."""
        ...

    def prompt(self, system: str | None, turns: Sequence[Turn]) -> str:
        """The prompt after which the reply to the last turn, the user's, is written."""
        ...


@dataclass(frozen=True)
class Transcript:
    """A dialogue as a play has it: for a model that only knows how to continue a text."""

    user: str = "Human"
    bot: str = "AI"
    name: str = "transcript"

    def __post_init__(self) -> None:
        for flag, text in (("--user-name", self.user), ("--bot-name", self.bot)):
            if not text.strip() or "\n" in text:
                raise UsageError(flag, f"{text!r} is not a name", "Give one word or a few.")
        if self.user == self.bot:
            raise UsageError("--bot-name", "both sides have the same name", "Give two names.")

    @property
    def stop(self) -> tuple[str, ...]:
        """The beginning of anybody's next line."""
        return f"\n{self.user}:", f"\n{self.bot}:"

    def prompt(self, system: str | None, turns: Sequence[Turn]) -> str:
        """`system` is the opening; without it a sentence says who is talking."""
        opening = f"{self.user} asks {self.bot}, a friendly assistant who answers in a few words."
        parts = [opening if system is None else system, "\n"]
        for turn in turns:
            if turn.role == "user":
                parts.append(f"\n{self.user}: {turn.content}\n{self.bot}:")
            else:  # the model begins with a space of its own, as GPT-2's tokens do
                parts.append(f" {turn.content}" if turn.written is None else turn.written)
        return "".join(parts)


@dataclass(frozen=True)
class EndOfText:
    """Turns set apart by the end-of-text token, as DialoGPT was trained (Zhang et al. 2020)."""

    end: str = END_OF_TEXT
    stop: tuple[str, ...] = ()  # the token itself ends a reply, in every engine
    name: str = "eos"

    def prompt(self, system: str | None, turns: Sequence[Turn]) -> str:
        """There is no place for instructions: `system` stands as the first thing said."""
        said = [] if system is None else [system]
        said += [turn.content if turn.written is None else turn.written for turn in turns]
        return "".join(text + self.end for text in said)
