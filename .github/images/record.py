"""Make generate.svg, the picture at the top of the README, from real runs in a pseudo-terminal.

Run it from the repository's root: python .github/images/record.py
"""

from __future__ import annotations

import io
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = [
    'gptcli generate "Once upon a time" --seed 7 --max-new-tokens 60 -v',
    'echo "The old king said" | gptcli generate --greedy --stop . --json | jq .text',
    'gptcli generate --top-p 1.5 "Once"',
]
WIDTH = 96


def run(command: str) -> str:
    """What a command shows in a terminal, escape sequences included."""
    ours, theirs = pty.openpty()
    program = f"{shlex.quote(sys.executable)} -m gptcli"
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "GPTCLI_MODEL": "tiny-tales",
        "GPTCLI_OFFLINE": "1",
    }
    line = command.replace("gptcli ", f"{program} ")
    process = subprocess.Popen(
        ["bash", "-c", line], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    process.wait()
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    lines = [line.rpartition("\x1b[2K")[2] for line in lines]  # erased and drawn again
    return "\n".join(line for line in lines if "loading" not in line).strip("\n")


def main() -> None:
    """Run the commands and save the picture beside this script."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor")
    for command in COMMANDS:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(run(command)), soft_wrap=False)
        console.print()
    target = Path(__file__).with_name("generate.svg")
    console.save_svg(str(target), title="gptcli")


if __name__ == "__main__":
    main()
