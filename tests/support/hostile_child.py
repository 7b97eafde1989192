"""A client of a hostile server, in a process of its own: what comes of each case, and its memory.

Arguments: the server's address, seconds without progress that are allowed, and KIND/CASE for each
kind of request and name of a case. For each a line of JSON:
the error (or the text), its exit code, seconds, and the most memory so far above that at the start.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from gptcli.engines.remote import RemoteEngine, connect, connection
from gptcli.engines.remote.client import Patience
from gptcli.errors import GptcliError
from gptcli.options import Load, Sampling
from gptcli.protocol import ChoiceLogprobs, Completion, GenerateRequest, LoglikelihoodRequest


def impatience(stall: float) -> Patience:
    """One try, and short waits; also for a gptcli that knows fewer of them."""
    wanted = {"tries": 1, "read": stall, "silence": stall, "behind": stall / 2}
    known = {field.name for field in fields(Patience)}
    return Patience(**{name: value for name, value in wanted.items() if name in known})  # type: ignore[arg-type]


def most_memory() -> int:
    """Bytes that this process held at most."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024


def generated(engine: RemoteEngine, sampling: Sampling, shown: bool = True) -> str:
    request = GenerateRequest(id="0", prompt="Once", sampling=sampling, shown=shown)
    done = [item for item in engine.run([request]) if isinstance(item, Completion)]
    for item in done:
        if item.error:
            raise item.error
    return done[0].text


def scored(engine: RemoteEngine) -> str:
    request = LoglikelihoodRequest(id="0", prompt="Once", choices=(" a", " b"))
    [found] = engine.run([request])
    assert isinstance(found, ChoiceLogprobs)
    if found.error:
        raise found.error
    return str(found.choices)


KINDS: dict[str, Callable[[RemoteEngine], str]] = {
    "generate": lambda engine: generated(engine, Sampling(max_new_tokens=12)),
    "unseen": lambda engine: generated(engine, Sampling(max_new_tokens=12), shown=False),
    "logprobs": lambda engine: generated(engine, Sampling(max_new_tokens=12, logprobs=3)),
    "greedy": lambda engine: generated(engine, Sampling(max_new_tokens=12, greedy=True)),
    "choices": scored,
    "echo": lambda engine: str(engine.tokenizer.encode("Once upon")),
    "list": lambda engine: engine.info.name,
}


def outcome(url: str, kind: str, patience: Patience) -> tuple[int, str]:
    for name in ("AT_START", "NOT_NEEDED"):
        setattr(connection, name, patience)
    try:
        load = Load(server=url, model=None if kind == "list" else "gpt2")
        return 0, KINDS[kind](connect(load, 1, patience))
    except GptcliError as error:
        return error.exit_code, str(error)


def main(url: str, stall: float, cases: Iterable[str]) -> None:
    patience = impatience(stall)
    os.environ["GPTCLI_API_KEY"] = "warm"
    outcome("http://127.0.0.1:9/v1", "generate", patience)  # imports what a request needs
    start = most_memory()
    for case in cases:
        kind, _, name = case.partition("/")
        os.environ["GPTCLI_API_KEY"] = name
        begun = time.monotonic()
        code, said = outcome(url, kind, patience)
        took = time.monotonic() - begun
        line = {"case": case, "code": code, "said": said[:500], "size": len(said)}
        print(json.dumps(line | {"seconds": took, "memory": most_memory() - start}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
