"""nanoGPT's characters: `meta.pkl`, a pickle of plain dictionaries, becomes a tokenizer.json.

A pickle is a program. Its instructions are read one by one, and those that make dictionaries,
numbers and texts are followed; every other one, such as a call, is refused.
"""

from __future__ import annotations

import json
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.readers.gpt2.vocabulary import Vocabulary
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.tokenization.files import JSON
from gptcli.system.strict_json import read_bytes

META = "meta.pkl"
VALUES = {  # instructions that put their argument on the stack
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"),
}
_MARK = object()


def from_meta(file: Path, embeddings: int) -> Vocabulary:
    """The tokenizer of a data set of characters. Raises Refused and GptcliError."""
    held = plain_pickle(file.name, read_bytes(file, MAX_TOKENIZER_BYTES))
    ids = held.get("stoi") if isinstance(held, dict) else None
    if not isinstance(ids, dict) or not all(
        isinstance(text, str) and type(id) is int for text, id in ids.items()
    ):
        raise Refused(f"{file.name} does not say which number a character has (stoi)")
    if sorted(ids.values()) != list(range(len(ids))) or len(ids) > embeddings:
        why = f"its {len(ids)} characters are not numbered as the model's {embeddings}"
        return Vocabulary(notices=(f"{file.name} is left out: {why}",))
    if any(len(text) != 1 for text in ids):
        return Vocabulary(notices=(f"{file.name} is left out: its tokens are no characters",))
    return Vocabulary(texts={JSON: json.dumps(_tokenizer(ids), ensure_ascii=False)})


def _tokenizer(ids: dict[str, int]) -> dict[str, object]:
    """A BPE that merges nothing."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": ids,
            "merges": [],
        },
    }


def plain_pickle(name: str, data: bytes) -> object:
    """What a pickle of dictionaries, whole numbers and texts holds. Raises Refused."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name == "STOP":
                return stack[-1]
            _follow(name, code.name, argument, stack, memo)
    except (ValueError, IndexError, KeyError, TypeError):
        pass
    raise Refused(f"{name} is no pickle, or damaged")


def _follow(name: str, code: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """One instruction."""
    if code in VALUES:
        stack.append(argument)
    elif code in MEMORY:
        MEMORY[code](argument, stack, memo)
    elif code in MAKERS:
        MAKERS[code](stack)
    elif code not in ("PROTO", "FRAME"):
        raise Refused(f"{name} asks for more than a dictionary ({code})")


def _set_items(stack: list[Any]) -> None:
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[place + 1 :]
    del stack[place:]
    if not isinstance(stack[-1], dict):
        raise TypeError
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    if not isinstance(stack[-1], dict):
        raise TypeError
    stack[-1][key] = value


def _memoize(argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    memo[len(memo) if argument is None else argument] = stack[-1]


def _recall(argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    stack.append(memo[argument])


MEMORY: dict[str, Callable[[Any, list[Any], dict[int, Any]], None]] = {
    **dict.fromkeys(("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"), _memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "GET"), _recall),
}
MAKERS: dict[str, Callable[[list[Any]], None]] = {
    "EMPTY_DICT": lambda stack: stack.append({}),
    "MARK": lambda stack: stack.append(_MARK),
    "SETITEMS": _set_items,
    "SETITEM": _set_item,
}
