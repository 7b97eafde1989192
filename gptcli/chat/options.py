"""The options of `gptcli chat`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option


@dataclass(frozen=True, kw_only=True)
class Chat(Options):
    """Options of a conversation."""

    panel = "Conversation"

    system: str | None = option(
        None,
        "--system",
        "Text before the conversation: who is talking, how to answer.",
        metavar="TEXT",
    )
    template: Literal["auto", "own", "transcript", "eos"] = option(
        "auto",
        "--template",
        "How turns become a prompt; auto is the model's own where it has one, eos for DialoGPT,"
        " else a transcript.",
    )
    language: Literal["auto", "en", "zh", "ja", "ko"] = option(
        "auto",
        "--language",
        "A transcript's language; auto is the model's, as its vocabulary tells.",
    )
    user_name: str | None = option(
        None,
        "--user-name",
        "What a transcript calls you.",
        metavar="TEXT",
        shown_default="Human, or its like",
    )
    bot_name: str | None = option(
        None,
        "--bot-name",
        "What a transcript calls the model.",
        metavar="TEXT",
        shown_default="AI, or its like",
    )
    load: str | None = option(
        None,
        "--load",
        "Go on with the conversation in a file that /save made.",
        metavar="FILE",
        names="file",
        instead=ASKED,
    )
    continue_: bool = option(
        False,
        "-c --continue",
        "Go on with the last conversation.",
        instead=ASKED,
        redeclares="it continues a conversation, not a text",
    )
    history: bool = option(
        True,
        "--history/--no-history",
        "Keep typed lines and the conversation, at a terminal.",
        rare=True,
    )
    json: bool = option(
        False,
        "--json",
        "Write a line of JSON for each message, with its reply.",
        instead="It can only be a flag.",
        redeclares="it prints a line for each message",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.load is not None and self.continue_:
            raise UsageError("--continue", "does not go with --load", "Leave one of them out.")
