"""`main`: run the command line and turn every failure into one line and an exit code.

Typer is imported inside, after the signal handlers are in place, so that Ctrl-C during an import
is no traceback either. Typer's own error boxes and exit codes are not used: they do not know ours.
Which commands there are is in `gptcli.cli.registry`, how they run in `gptcli.cli.root`.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

from gptcli.cli import signals
from gptcli.cli.output import stderr
from gptcli.errors import ExitCode, GptcliError, Unavailable, UsageError, WriteFailed
from gptcli.system import stages
from gptcli.system.memory import is_shortage
from gptcli.system.os_errors import said

PROFILE = "GPTCLI_PROFILE_STARTUP"
COMPLETE = "_GPTCLI_COMPLETE"  # set by a shell that asks what may come next: its name
_DISK = {errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF}


def main(argv: Sequence[str] | None = None) -> None:
    """Run gptcli on `argv` (without the program's name) and exit with its code.

    Given an `argv`, as a test or a program does, it leaves by SystemExit. As the program itself it
    ends at once, all streams flushed: tearing down torch's modules, where it was imported, takes
    half a second.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    stderr.keep_descriptors()
    stderr.reconfigure()
    if COMPLETE in os.environ:
        _complete(args, own=argv is None)
    if argv is None and "inspect" not in args:
        # NumPy's BLAS starts a thread for each core, which only `inspect` has work for.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stages.record(_asked(args, "--profile-startup") or _switched_on(PROFILE))
    debug = _asked(args, "--debug") or _switched_on("GPTCLI_DEBUG")
    with signals.caught(), warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")  # libraries warn their developers
        try:
            code = _run(args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # a Rust panic is no Exception
            code = _report(error, args, debug)
        _show_profile(args)
        failure = stderr.settle()
        if failure is not None and code == ExitCode.OK:
            code = _report(failure, args, debug)
    if argv is None:
        os._exit(code)
    sys.exit(code)


def _complete(args: Sequence[str], own: bool) -> NoReturn:
    """Answer a shell and exit. A failure is silent: it would stand in the line being typed."""
    code = ExitCode.OK
    try:
        with signals.dying_of_closed_pipes():
            import typer

            from gptcli.cli import root
            from gptcli.cli.completion import complete

            answer = complete.answer(typer.main.get_command(root.app), os.environ[COMPLETE], args)
            sys.stdout.write(answer)
            sys.stdout.flush()
    except Exception as error:
        code = ExitCode.BUG
        if _switched_on("GPTCLI_DEBUG"):
            _trace(error)
    if own:
        os._exit(code)
    sys.exit(code)


def _run(args: Sequence[str]) -> int:
    from gptcli.cli.root import run

    with signals.dying_of_closed_pipes():
        return run(args)


def _show_profile(args: Sequence[str]) -> None:
    if not stages.recording():
        return
    from gptcli.cli.output import profile

    shown = profile.as_json() if _wants_json(args) else profile.as_table()
    stderr.say_lines(shown)


def _report(error: BaseException, args: Sequence[str], debug: bool) -> int:
    """Say what went wrong on stderr; returns the exit code."""
    known = explain(error, args)
    if debug:
        _trace(error)
    stderr.say(f"{stderr.ERROR}{known}")
    if _wants_json(args):
        from gptcli.cli.output.records import quoted

        stderr.say(quoted({"error": known.to_dict()}))
    return int(known.exit_code)


def _trace(error: BaseException) -> None:
    import traceback

    stderr.say_lines("".join(traceback.format_exception(error)))


def explain(error: BaseException, args: Sequence[str] = ()) -> GptcliError:
    """The failure in our words: unchanged if it is ours, else a usage error, a full disk, a bug.

    `args` is the command line, for a hint that repeats it.
    """
    if isinstance(error, GptcliError):
        return error.in_flags
    if is_shortage(error):
        return Unavailable(
            "memory", "there is not enough", "Choose a smaller model, or close other programs."
        )
    if isinstance(error, OSError) and error.errno in _DISK and error.filename is None:
        return WriteFailed("standard output", said(error), "Make room.")
    import typer

    if isinstance(error, typer.Abort):
        return UsageError("aborted")
    if isinstance(error, typer.TyperException):
        from gptcli.cli.mistakes.explain import explained

        return explained(error, args)
    return GptcliError(
        f"internal error: {type(error).__name__}",
        str(error).rstrip(".") or "no message",
        "Run again with --debug and report it.",
    )


def _asked(args: Sequence[str], flag: str) -> bool:
    """Whether `flag` stands among the options: before a `--`."""
    end = args.index("--") if "--" in args else len(args)
    return flag in args[:end]


def _switched_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in {"1", "true", "t", "yes", "y", "on"}


def _wants_json(args: Sequence[str]) -> bool:
    """Whether the answer was to be JSON; asked of the raw arguments, as parsing may have failed."""
    shapes = {"json", "jsonl"}
    return (
        _asked(args, "--json")
        or any(_asked(args, f"--format={shape}") for shape in shapes)
        or any(pair[0] == "--format" and pair[1] in shapes for pair in pairwise(args))
        or os.environ.get("GPTCLI_FORMAT") in shapes
    )
