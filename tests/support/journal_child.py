"""A batch without a model, in this process or in one of its own that can be killed.

`work` is the loop of every batch; as a program it runs once, or forks a child for each moment at
which one can die.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.row import Row, digest
from gptcli.batch.output.journal import Journal
from gptcli.batch.output.manifest import RunManifest
from gptcli.batch.output.opening import open_changed, open_journal, open_retry
from gptcli.errors import GptcliError

# What changes a disk; `link` and `unlink` among them.
FLUSHES = ("fsync", "fdatasync")
CALLS = ("open", "write", "ftruncate", "fchmod", "replace", "link", "unlink", *FLUSHES)
DIED = 86


def texts(count: int) -> list[str]:
    """Inputs of a batch, among them what is hard to write."""
    hard = ('"', "\\", "line\nbreak", "tab\t,;", "naïve ☃ 🦊", "\ud800", "\u2028", "\0", "x" * 5000)
    return [f"text {number} {hard[number % len(hard)]}" for number in range(count)]


def rows(inputs: Iterable[str]) -> list[Row]:
    """The rows of these inputs, as reading gives them."""
    return [
        Row(number, digest(text.encode("utf-8", "surrogatepass")), str(number), text)
        for number, text in enumerate(inputs)
    ]


def record(row: Row, failing: bool = False) -> dict[str, object]:
    """What a row becomes: always the same, for every seventh an error where `failing`."""
    failed = failing and row.number % 7 == 3
    return {
        "id": row.id,
        "text": "" if failed else row.text[::-1],
        "usage": {"prompt_tokens": len(row.text), "completion_tokens": row.number},
        "logprob": -row.number / 3,
        "error": {"type": "BadInput", "message": "bad, and worse"} if failed else None,
    }


def manifest(inputs: Iterable[str], /, **changes: object) -> RunManifest:
    """What an output of these inputs is made from."""
    whole = "\n".join(inputs).encode("utf-8", "surrogatepass")
    made = {
        "version": "0.1.0",
        "inputs": (Fingerprint("in.txt", len(whole), digest(whole)),),
        "settings": {"temperature": 0.8, "stop": ("a", "b"), "seed": 0},
        "model": "tiny",
        "revision": None,
    }
    return RunManifest(**(made | changes))


def work(
    journal: Journal,
    inputs: Iterable[str],
    *,
    failing: bool = False,
    ahead: int = 3,
    pause: Callable[[], None] = lambda: None,
) -> int:
    """The loop of a batch, with `ahead` rows under way; gives how many were computed."""
    under_way: list[Row] = []
    computed = 0

    def write_one() -> None:
        nonlocal computed
        row = under_way.pop(0)
        journal.append(row, record(row, failing))
        computed += 1
        pause()

    with journal:
        if journal.complete:
            return 0
        for row in rows(inputs):
            if not journal.skip(row):
                under_way.append(row)
            if len(under_way) >= ahead:
                write_one()
        while under_way:
            write_one()
        journal.finish()
    return computed


def run(options: argparse.Namespace) -> int:
    """One run; gives the exit code."""
    inputs = texts(options.rows)
    opening = {"open": open_journal, "retry": open_retry, "changed": open_changed}[options.mode]
    now = inputs if options.mode != "changed" else changed(inputs)
    try:
        if options.limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (options.limit, options.limit))
        arguments = {"force": True} if options.force else {}
        journal = opening(options.output, manifest(now), fsync=options.fsync, **arguments)
        if options.hold:
            print("held", flush=True)
            sys.stdin.readline()
        work(
            journal,
            now,
            failing=options.failing,
            ahead=options.ahead,
            pause=lambda: time.sleep(options.pause),
        )
    except GptcliError as error:
        print(json.dumps({**error.to_dict(), "why": error.why}), flush=True)
        return error.exit_code
    return 0


def changed(inputs: list[str]) -> list[str]:
    """The inputs after someone edited them: one less, one more, one twice, two swapped."""
    return [inputs[2], inputs[0], "new", *inputs[3:], inputs[4]]


class Moments:
    """Makes calls that end the process at the n-th moment: before one, after it, or half-way."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.count = 0
        self.write = os.write

    def reached(self) -> bool:
        self.count += 1
        return self.count == self.moment

    def mortal(self, call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **named: object) -> object:
            if self.reached():
                os._exit(DIED)
            if call is self.write and self.reached():
                self.write(args[0], args[1][: len(args[1]) // 2])
                os._exit(DIED)
            given = call(*args, **named)
            if self.reached():
                os._exit(DIED)
            return given

        return instead


def die_at(options: argparse.Namespace, moment: int) -> bool:
    """Run in a child that dies at this moment; whether there was such a moment."""
    child = os.fork()
    if child == 0:
        moments = Moments(moment)
        for name in CALLS:
            setattr(os, name, moments.mortal(getattr(os, name)))
        try:
            os._exit(run(options))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    if ended not in (0, DIED):
        raise SystemExit(f"moment {moment}: ended in {ended}")
    return ended == DIED


def in_a_child(options: argparse.Namespace) -> int:
    """Run to the end in a child of its own; gives the exit code."""
    child = os.fork()
    if child == 0:
        os._exit(run(options))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    """Run once, or once for each moment of dying from `--moments` on: then a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--mode", default="open")
    parser.add_argument("--fsync", default="row")
    parser.add_argument("--ahead", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--failing", action="store_true")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--moments", type=Path, help="a folder whose files each child begins with")
    options = parser.parse_args()
    if options.moments is None:
        return run(options)
    for name in FLUSHES:  # the end of a process does not need them, and they take long
        setattr(os, name, lambda descriptor: None)
    place, moment, died = options.output, 0, True
    while died:
        moment += 1
        folder = place.parent / f"moment{moment}"
        folder.mkdir()
        for file in options.moments.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        options.output = folder / place.name
        forced = options.force
        died = die_at(options, moment)
        # As the message says: the same command again, without --force if there is a new row.
        options.force = False
        code = in_a_child(options)
        if code and forced:
            options.force = True
            code = in_a_child(options)
        options.force = forced
        print(json.dumps({"folder": str(folder), "code": code, "died": died}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
