"""Turns of a conversation, and the two templates that any GPT-2 understands.

A template is a pure function from turns to one prompt, and each prompt goes on exactly where the
last one and its reply ended: then an engine that still holds those tokens computes only the new
ones. That is why a turn keeps what the model wrote letter for letter beside what is shown of it.
Not here: a checkpoint's own template is in `gptcli.chat_templates.own`.
"""

from __future__ import annotations

# ruff: noqa: RUF001 - full-width marks are signs of text here
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gptcli.checkpoints.tokenization.roles import END_OF_TEXT
from gptcli.errors import UsageError

SEPARATOR = "[SEP]"  # of BERT's vocabularies; elsewhere no text has it

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
class TranscriptWords:
    """What a transcript says beside the turns, in one language."""

    user: str
    bot: str
    opening: str  # {user} and {bot} stand for the names
    colon: str = ":"
    space: str = " "  # after the colon
    # Whether a line break must stand before a name that ends a reply. BERT's vocabularies have no
    # line break, and [SEP] ends their texts; NFKC makes a full-width colon a plain one.
    breaks: bool = True


WORDS = {
    "en": TranscriptWords(
        "Human", "AI", "{user} asks {bot}, a friendly assistant who answers in a few words."
    ),
    "zh": TranscriptWords(
        "用户", "助手", "{user}与{bot}的对话。{bot}很友善，回答简短。", "：", "", False
    ),
    "ja": TranscriptWords(
        "ユーザー", "AI", "{user}と{bot}の会話。{bot}は親切で、短く答える。", "：", "", False
    ),
    "ko": TranscriptWords(
        "사용자", "AI", "다음은 {user} 및 {bot}의 대화이다. 대답은 친절하고 짧다.", breaks=False
    ),
}
"""The languages of a transcript."""


@dataclass(frozen=True)
class Transcript:
    """A dialogue as a play has it: for a model that only knows how to continue a text."""

    user: str = WORDS["en"].user
    bot: str = WORDS["en"].bot
    name: str = "transcript"
    words: TranscriptWords = WORDS["en"]

    def __post_init__(self) -> None:
        for flag, text in (("--user-name", self.user), ("--bot-name", self.bot)):
            if not text.strip() or "\n" in text:
                raise UsageError(flag, f"{text!r} is not a name", "Give one word or a few.")
        if self.user == self.bot:
            raise UsageError("--bot-name", "both sides have the same name", "Give two names.")

    @property
    def stop(self) -> tuple[str, ...]:
        """The beginning of anybody's next line."""
        if self.words.breaks:
            return f"\n{self.user}:", f"\n{self.bot}:"
        colons = dict.fromkeys((self.words.colon, ":"))
        names = (f"{name}{colon}" for name in (self.user, self.bot) for colon in colons)
        return *names, SEPARATOR

    def prompt(self, system: str | None, turns: Sequence[Turn]) -> str:
        """`system` is the opening; without it a sentence says who is talking."""
        colon, space = self.words.colon, self.words.space
        parts = [self._opening() if system is None else system, "\n"]
        for turn in turns:
            if turn.role == "user":
                parts.append(f"\n{self.user}{colon}{space}{turn.content}\n{self.bot}{colon}")
            else:  # the model begins with a space of its own, as GPT-2's tokens do
                parts.append(f"{space}{turn.content}" if turn.written is None else turn.written)
        return "".join(parts)

    def _opening(self) -> str:
        named = {"{user}": self.user, "{bot}": self.bot}
        return re.sub(r"\{(user|bot)\}", lambda found: named[found[0]], self.words.opening)


def transcript(user: str | None, bot: str | None, language: str) -> Transcript:
    """A transcript in a language, English where it has none. Raises UsageError for a bad name."""
    words = WORDS.get(language, WORDS["en"])
    given_user = words.user if user is None else user
    return Transcript(given_user, words.bot if bot is None else bot, words=words)


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
