"""A complaint of Click's in our words, with a command line that works.

Words and flags of other programs are in `gptcli.cli.mistakes.words`; all else is read off the
commands and their options. Commands are imported only where the mistake asks for it, never torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from gptcli.cli.mistakes.commands import unexpected_argument, unknown_command
from gptcli.cli.mistakes.options import bad_option
from gptcli.cli.mistakes.values import bad_value
from gptcli.cli.mistakes.words import help_of, lowered
from gptcli.errors import UsageError


def explained(error: Exception, args: Sequence[str]) -> UsageError:
    """Our error for a complaint of Click's about the command line `args`."""
    message = str(getattr(error, "message", "") or error).rstrip(".")
    context = getattr(error, "ctx", None)
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if option is not None:
        return bad_option(option, message, context, args)
    if param is not None:
        return bad_value(error, param, context, message)
    if message.startswith("No such command"):
        return unknown_command(message, context, args)
    if message.startswith("Got unexpected extra argument"):
        return unexpected_argument(message, context)
    return UsageError(lowered(message), "", help_of(context))
