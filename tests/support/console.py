"""Console blocks of Markdown: what they say happens, and what happens.

A block is fenced as `console`. In it a line that begins with `$ ` is a command (lines that begin
with `> ` right after it go on with it), and what follows is its output, standard error included.
All blocks of a file are one session of bash, in a folder that holds copies of
`gptcli/docs/examples` and, under the name in its first line, each block that is fenced as `python`.
The model is tiny-tales, offline. Blocks that need something else, such as a network, a server or a
GPU, are fenced as `sh`, and are not run.

Two things are not compared: numbers of seconds and of rows or tokens a second, and where the home
folder is, which is shown as `~`. The last decimal of a number may differ by one, because processors
sum in different orders.

Write the outputs of files anew: python tests/support/console.py README.md gptcli/docs/*.md
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))  # for a run from the command line
from support.forked import waiting

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "gptcli" / "docs"
EXAMPLES = DOCS / "examples"
FENCE, PROMPT, MORE = "```", "$ ", "> "
TIMING = re.compile(r"\d+(\.\d+)?(?= (s|ms|\w+/s)\b)")
DECIMAL = re.compile(r"-?\d+\.\d+")
SECONDS = 300  # that a session may take


@dataclass(frozen=True)
class Step:
    """A command, and the output that the file shows; `start` and `end` are lines of the output."""

    command: str
    output: str
    start: int
    end: int


@dataclass(frozen=True)
class Outcome:
    """What a command wrote, and its exit status."""

    output: str
    status: int


def blocks(text: str, language: str) -> Iterator[tuple[int, list[str]]]:
    """The blocks of a language: the number of the first line, from 0, and the lines."""
    lines = text.split("\n")
    place = 0
    while place < len(lines):
        if not lines[place].startswith(FENCE):
            place += 1
            continue
        end = lines.index(FENCE, place + 1)
        if lines[place] == FENCE + language:
            yield place + 1, lines[place + 1 : end]
        place = end + 1


def steps(text: str) -> list[Step]:
    """The commands of a file's console blocks, in order."""
    return [step for start, lines in blocks(text, "console") for step in _steps(start, lines)]


def _steps(start: int, lines: list[str]) -> Iterator[Step]:
    assert lines[0].startswith(PROMPT), f"line {start + 1}: a console block begins with a command"
    begins = [place for place, line in enumerate(lines) if line.startswith(PROMPT)]
    for place, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        after = place + 1
        while after < end and lines[after].startswith(MORE):
            after += 1
        command = "\n".join(line[2:] for line in lines[place:after])
        output = "".join(f"{line}\n" for line in lines[after:end])
        yield Step(command, output, start + after, start + end)


def programs(text: str) -> dict[str, str]:
    """The programs of a file's `python` blocks; the first line of each is a comment: its name."""
    found = ("\n".join(lines) + "\n" for _, lines in blocks(text, "python"))
    return {program.partition("\n")[0].removeprefix("# "): program for program in found}


def played(text: str, folder: Path, gptcli: Sequence[str]) -> list[Outcome]:
    """Run the commands of a file, in a folder that must not exist yet; `gptcli` as by `ready`."""
    return session([step.command for step in steps(text)], folder, programs(text), gptcli)


def session(
    commands: list[str],
    folder: Path,
    files: Mapping[str, str] | None = None,
    gptcli: Sequence[str] = (),
) -> list[Outcome]:
    """Run commands one after another in one bash, in a folder that must not exist yet.

    `gptcli`: the words that run it there, if a command does.
    """
    shutil.copytree(EXAMPLES, folder / "work")
    for name, content in (files or {}).items():
        (folder / "work" / name).write_text(content, encoding="utf-8")
    script = "exec 2>&1\n" + "".join(f"{it}\nprintf '\\0%d\\0' $?\n" for it in commands)
    (folder / "session.sh").write_text(script, encoding="utf-8")
    environment = _environment(folder)
    _program(folder, "gptcli", gptcli)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", str(folder / "session.sh")],
        cwd=folder / "work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        timeout=SECONDS,
        check=True,
    )
    written = done.stdout.decode().replace(str(folder / "home"), "~").split("\0")
    outcomes = zip(written[:-1:2], written[1::2], strict=True)
    return [Outcome(output, int(status)) for output, status in outcomes]


def comparable(output: str) -> str:
    """An output without what differs from run to run."""
    return TIMING.sub("N", output)


def same(shown: str, written: str) -> bool:
    """Whether two outputs say the same, as far as it is compared."""
    ours, theirs = comparable(shown), comparable(written)
    return DECIMAL.sub("N", ours) == DECIMAL.sub("N", theirs) and all(
        near(one[0], other[0])
        for one, other in zip(DECIMAL.finditer(ours), DECIMAL.finditer(theirs), strict=True)
    )


def near(one: str, other: str) -> bool:
    """Whether two numbers of as many decimals differ by no more than one in the last."""
    decimals = len(one.partition(".")[2])
    unit = Decimal(1).scaleb(-decimals)
    return decimals == len(other.partition(".")[2]) and abs(Decimal(one) - Decimal(other)) <= unit


@contextmanager
def ready() -> Iterator[list[str]]:
    """The words that run gptcli in sessions, each forked from one process that has imported it."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **threads}
    with TemporaryDirectory() as short, waiting(Path(short) / "s", environment) as words:
        yield words


def _program(folder: Path, name: str, words: Sequence[str]) -> None:
    program = folder / "bin" / name
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)


def _environment(folder: Path) -> dict[str, str]:
    """A user who has nothing but gptcli, and `gptcli` and `python` are those of this test."""
    home, programs = folder / "home", folder / "bin"
    home.mkdir()
    programs.mkdir()
    _program(folder, "python", [sys.executable])
    own = ("GPTCLI_", "HF_", "XDG_", "TRANSFORMERS_", "NO_COLOR", "FORCE_COLOR", "PAGER")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(own)},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_DATA_HOME": str(home / ".local"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "GPTCLI_MODEL": "tiny-tales",
        "GPTCLI_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TERM": "dumb",
        "COLUMNS": "80",
    }


def renewed(text: str, outcomes: list[Outcome]) -> str:
    """The file with the outputs that there were; those that say the same stay."""
    lines = text.split("\n")
    for step, outcome in reversed(list(zip(steps(text), outcomes, strict=True))):
        if not same(step.output, outcome.output):
            lines[step.start : step.end] = outcome.output.removesuffix("\n").split("\n")
            if not outcome.output:
                del lines[step.start]
    return "\n".join(lines)


def main() -> None:
    """Write the outputs of the files named on the command line anew."""
    with ready() as gptcli:
        for path in map(Path, sys.argv[1:]):
            text = path.read_text(encoding="utf-8")
            with TemporaryDirectory() as folder:
                outcomes = played(text, Path(folder).resolve() / "session", gptcli)
            path.write_text(renewed(text, outcomes), encoding="utf-8")
            print(f"{path}: {len(outcomes)} commands")


if __name__ == "__main__":
    main()
