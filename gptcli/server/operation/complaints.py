"""What the server says on stderr of its own failures: one line each, with --debug the traceback."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress

LOGGERS = ("gptcli.server", "asyncio")


class Complaints(logging.Handler):
    """A handler that says records; `say_lines` gets tracebacks, None keeps them."""

    def __init__(self, say: Callable[[str], None], say_lines: Callable[[str], None] | None) -> None:
        super().__init__(logging.WARNING)
        self._say, self._say_lines = say, say_lines

    def emit(self, record: logging.LogRecord) -> None:
        """Say one."""
        with suppress(Exception):
            error = record.exc_info[1] if record.exc_info else None
            if error is not None and self._say_lines is not None:
                self._say_lines("".join(traceback.format_exception(error)))
            cause = f": {type(error).__name__}: {error}" if error is not None else ""
            self._say(record.getMessage() + cause)


def complain(say: Callable[[str], None], say_lines: Callable[[str], None] | None) -> None:
    """From here on the server's failures are said."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [Complaints(say, say_lines)]
        logger.propagate = False
