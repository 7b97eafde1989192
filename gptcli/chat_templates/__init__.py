"""Chat templates: how a conversation becomes the prompt of a model that continues text.

`choose` takes the checkpoint's own template where there is one, because the model was trained on
it; base GPT-2 has none and gets a transcript. Jinja is imported only for a template that needs it.
Not here: the conversation is in `gptcli.chat`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gptcli.chat_templates.own import find, special_text, template_text
from gptcli.chat_templates.plain import EndOfText, Role, Template, Transcript, Turn, transcript
from gptcli.checkpoints.tokenization.roles import named_roles, token_text
from gptcli.errors import UsageError

__all__ = [
    "Choice",
    "EndOfText",
    "Role",
    "Template",
    "Transcript",
    "Turn",
    "choose",
    "template_text",
    "transcript",
]

Choice = Literal["auto", "own", "transcript", "eos"]


def choose(
    asked: Choice,
    folder: Path | None,
    model: str,
    user: str | None = None,
    bot: str | None = None,
    language: str = "en",
) -> Template:
    """The template to talk with; `folder` is the checkpoint's, `user` and `bot` name the speakers.

    `language` is that of a transcript, which has names of its own for them.

    `auto`: the checkpoint's own, else `eos` for a model named DialoGPT, else `transcript`. Raises
    UsageError (no own template, a bad name) and BadModel (an own template that does not work).
    """
    plain = transcript(user, bot, language)
    own = find(folder) if folder is not None and asked in ("auto", "own") else None
    if own is not None:
        return own
    if asked == "own":
        hint = "Use --template transcript, or eos for a DialoGPT."
        raise UsageError("--template own", f"{model} brings no chat template", hint)
    if asked == "eos" or (asked == "auto" and "dialogpt" in model.lower()):
        return _set_apart(folder)
    return plain


def _set_apart(folder: Path | None) -> EndOfText:
    """Turns set apart by the end-of-text token; by [SEP] where a vocabulary is BERT's.

    That does not end texts elsewhere, so it is a stop string here.
    """
    if folder is None:
        return EndOfText()
    named = named_roles(folder)
    separator = token_text(named.get("sep_token"))
    if separator is None or token_text(named.get("eos_token")) is not None:
        return EndOfText(special_text(folder, "eos_token"))
    return EndOfText(separator, (separator,))
