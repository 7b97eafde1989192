"""The scripts that make bash, zsh and fish complete gptcli, and where they are installed.

Each script is a file beside this module, printed or copied unchanged. bash and zsh load theirs by
one line at the end of their start-up file; fish finds its own. Not here: the answers to a script
are in `gptcli.cli.completion.complete`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from gptcli.errors import CannotCreate, UsageError
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import open_regular

SHELLS: Mapping[str, str] = {
    "bash": "bash-completion/completions/gptcli",  # where the package bash-completion looks, too
    "zsh": "zsh/site-functions/_gptcli",
    "fish": "fish/completions/gptcli.fish",
}
"""Where each script goes, below the user's folder for data, or for configuration for fish."""


def script(shell: str) -> str:
    """The script of a shell."""
    return Path(__file__).with_name(f"completion.{shell}").read_text(encoding="utf-8")


def running(flag: str) -> str:
    """The shell that runs gptcli, else the user's login shell. Raises UsageError for others."""
    from shellingham import (  # type: ignore[import-untyped]
        ShellDetectionFailure,
        detect_shell,
    )

    try:
        name = str(detect_shell()[0])
    except (ShellDetectionFailure, OSError):
        name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        why = f"there is no completion for {name}" if name else "the shell is not known"
        raise UsageError(flag, why, f"Name one: {flag} {'|'.join(SHELLS)}.")
    return name


def install(shell: str) -> tuple[Path, Path | None]:
    """Write a shell's script, and a line that loads it into the shell's start-up file.

    Returns the script's path, and the start-up file if it was changed. A script that is there is
    replaced; the line is added only once. Raises CannotCreate.
    """
    data, configuration = ("XDG_DATA_HOME", ".local/share"), ("XDG_CONFIG_HOME", ".config")
    path = _home(*(configuration if shell == "fish" else data)) / SHELLS[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.rewrite(path, script(shell).encode())
    except OSError as error:
        hint = f"Put it elsewhere: gptcli --show-completion {shell} > FILE"
        raise CannotCreate(str(path), reason(error), hint) from None
    if shell == "fish":
        return path, None
    start = Path.home() / ".bashrc" if shell == "bash" else _home("ZDOTDIR", "") / ".zshrc"
    quoted = shlex.quote(str(path))
    return path, start if _add(start, f"[ -r {quoted} ] && . {quoted}") else None


def _home(variable: str, folder: str) -> Path:
    """The folder that a variable names, else one below the home folder."""
    named = os.environ.get(variable, "")
    return Path(named) if os.path.isabs(named) else Path.home() / folder  # noqa: PTH117


def _read(start: Path) -> bytes:
    """What a start-up file holds, nothing where there is none. Raises OSError."""
    if not start.exists():
        return b""
    with open_regular(start) as file:
        return file.read()


def _add(start: Path, line: str) -> bool:
    """Add a line to a start-up file that lacks it, following links; whether it was added."""
    try:
        before = _read(start)
        if line.encode() in before.splitlines():
            return False
        with start.open("ab") as file:
            file.write(b"\n" if before and not before.endswith(b"\n") else b"")
            file.write(f"{line}\n".encode())
    except OSError as error:
        raise CannotCreate(str(start), reason(error), f"Add this line to it: {line}") from None
    return True
