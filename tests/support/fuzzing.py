"""Files that are nearly right: strategies that break good ones, and what a reader may answer.

A good file is a value of Python. It is changed (types swapped, keys dropped, doubled or strange,
huge numbers, deep nesting, odd Unicode), written as JSON or TOML, and then its bytes are changed.
`judge` is the property of every reader: a result or an error of ours, soon.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gptcli.errors import ExitCode, GptcliError
from gptcli.system.sanitizer import one_line

ASKED = os.environ.get("GPTCLI_FUZZ_EXAMPLES")
SECONDS = 10.0  # of a processor that a reader may take: the machine may be busy
LONGEST_LINE = 8192  # characters of an error: two paths of the longest kind

fuzz = settings(
    max_examples=int(ASKED or 20),
    derandomize=ASKED is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Raw(str):
    """A piece of a file that is written as it is."""

    __slots__ = ()


@dataclass(frozen=True)
class Times:
    """A text so many times over: strategies are printed, and long texts would be, too."""

    text: str
    count: int
    around: str = "{}"

    def __str__(self) -> str:
        return self.around.replace("{}", self.text * self.count)


NINES, LONG = Times("9", 5000), Times("x", 300_000)
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 63, 2**31, 2**63, 2**64, -(2**63), 10**29]),
    st.sampled_from([0.0, 0.5, -0.0, 1e308, 5e-324, 1e-12]),
    st.sampled_from(
        [
            Times("9", 31),
            Times("9", 400),
            Times("9", 4000),
            NINES,
            Times("9", 5000, "-{}"),
            Times("f", 26, "0x{}"),
            Times("f", 6000, "0x{}"),
            Times("1", 40, "0b{}"),
            "-0",
            "1e5",
            "NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "inf",
            "1e999",
            "1E-400",
            "1_0",
            "01",
        ]
    ).map(lambda text: Raw(str(text))),
)
ODD_TEXTS = st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "a\x00b",
        "\n",
        "a\r\nb",
        "\t",
        "\ufeff",
        "�",
        "a�",
        "\u2028",
        "\x1b[2J",
        "😀",
        "é",
        "\u202e",
        "\x7f",
        "9",
        "-1",
        "1.5",
        "nan",
        "true",
        "null",
        "None",
        "..",
        "/",
        "../../etc/passwd",
        "a/b",
        "\\",
        '"',
        "'",
        "{",
        "{}",
        "{input}",
        "{0}",
        "%s",
        "$A",
        "²",
        "٣",
        "ß",
        "İ",
        NINES,
        Times("a", 300),
        LONG,
        "=",
        "a=b",
        "a=",
        ",",
        "gpt2",
    ]
).map(str)
TEXTS = st.one_of(ODD_TEXTS, st.text(max_size=12))
WORDS = st.text("abcdefghij _.-", max_size=8)
DEPTHS = st.sampled_from([3, 40, 100, 200, 320, 480, 700, 900, 960, 990, 5000, 100_000])


def _nested(depth: int, kind: str) -> Raw:
    opened, closed = {"[": ("[", "]"), "{": ('{"a": ', "}"), "=": ("{a = ", "}")}[kind]
    return Raw(opened * depth + "1" + closed * depth)


NESTED = st.builds(_nested, DEPTHS, st.sampled_from("[[{="))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, NUMBERS, TEXTS, WORDS)
VALUES = st.one_of(
    SCALARS,
    SCALARS,
    NESTED,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a value."""
    pairs: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = enumerate(value[:40])
    for key, item in pairs:
        yield (*above, key)
        yield from _places(item, (*above, key))


@st.composite
def changed(draw: st.DrawFn, good: st.SearchStrategy[Any], values: Any = VALUES) -> Any:
    """A good value with up to four changes, most often one."""
    whole = copy.deepcopy(draw(good))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4]))):
        places = list(_places(whole))
        if places:
            _change(draw, whole, places, values)
    return draw(st.sampled_from([whole] * 30 + [[whole], None]))


def _change(draw: st.DrawFn, whole: Any, places: list[tuple[Any, ...]], values: Any) -> None:
    """Change one of the places."""
    *above, last = draw(st.sampled_from(places))
    holder = _at(whole, above)
    match draw(st.sampled_from(["value", "value", "value", "drop", "key", "swap", "wrap"])):
        case "value":
            holder[last] = draw(values)
        case "drop":
            del holder[last]
        case "key" if isinstance(holder, dict):
            holder[draw(st.one_of(TEXTS, WORDS))] = draw(values)
        case "swap":
            holder[last] = copy.deepcopy(_at(whole, draw(st.sampled_from(places))))
        case _:
            holder[last] = draw(st.sampled_from([[holder[last]], {"a": holder[last]}]))


def _at(whole: Any, keys: Iterable[Any]) -> Any:
    for key in keys:
        whole = whole[key]
    return whole


def as_json(value: Any, twice: bool = False) -> str:
    """JSON, with `Raw` pieces as they are; `twice` writes the first key of each object again."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(as_json(item, twice) for item in value) + "]"
    if isinstance(value, dict):
        pairs = [*value.items()]
        pairs += [(pairs[0][0], pairs[-1][1])] if twice and pairs else []
        return (
            "{" + ", ".join(f"{_quoted(key)}: {as_json(item, twice)}" for key, item in pairs) + "}"
        )
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: Any) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _toml_key(key: str) -> str:
    plain = key.replace("_", "").replace("-", "")
    return key if plain.isascii() and plain.isalnum() else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, dict):
        inner = (f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items())
        return "{" + ", ".join(inner) + "}"
    if value is None:
        return "2024-01-01"
    if isinstance(value, float) and value != value:
        return "nan"
    return str(value) if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)


def as_toml(value: Any, place: str = "") -> str:
    """TOML of an object: its tables under headers, their order kept."""
    if not isinstance(value, dict):
        return f"a = {_toml_value(value)}\n"
    lines = [
        f"{_toml_key(key)} = {_toml_value(item)}\n"
        for key, item in value.items()
        if not isinstance(item, dict)
    ]
    for key, item in value.items():
        if isinstance(item, dict):
            inner = f"{place}{_toml_key(key)}"
            lines.append(f"[{inner}]\n{as_toml(item, inner + '.')}")
    return "".join(lines)


ENCODINGS = [
    "utf-16",
    "utf-16-le",
    "utf-32",
    "latin-1",
    "utf-8-sig",
    "cp1252",
    "shift_jis",
    "utf-7",
]


def encoded(text: str) -> bytes:
    """UTF-8; what it cannot hold stands there as the bytes that some programs write."""
    return text.encode("utf-8", "surrogatepass")


@st.composite
def files(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    """The bytes of a text, most often as they are; else cut, spoilt or in another encoding."""
    text = draw(texts)
    data = encoded(text)
    match draw(st.sampled_from([""] * 20 + ["cut", "put", "put", "encoding", "double", "raw"])):
        case "cut":
            return data[: draw(st.integers(0, min(len(data), 4000)))]
        case "put":
            at = draw(st.integers(0, min(len(data), 4000)))
            piece = draw(
                st.sampled_from([b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b'"', b"\xed\xa0\x80"])
            )
            return data[:at] + piece + data[at + draw(st.integers(0, 2)) :]
        case "encoding":
            return text.encode(draw(st.sampled_from(ENCODINGS)), "replace")
        case "double":
            return data + data
        case "raw":
            return draw(st.binary(max_size=200))
    return data


def json_files(good: st.SearchStrategy[Any], values: Any = VALUES) -> st.SearchStrategy[bytes]:
    """Files of JSON that are nearly as good as `good`."""
    return files(st.builds(as_json, changed(good, values), st.sampled_from([False] * 9 + [True])))


def toml_files(good: st.SearchStrategy[Any], values: Any = VALUES) -> st.SearchStrategy[bytes]:
    """Files of TOML that are nearly as good as `good`."""
    dotted = st.builds(
        lambda parts, header: f"[{'.'.join(parts)}]\n" if header else f"{'.'.join(parts)} = 1\n",
        st.one_of(
            st.lists(st.sampled_from(["a", "models", "generate", "gpt2", "options"]), min_size=1),
            st.sampled_from(
                [("a", 40), ("models", 1500), ("a", 3), ("b", 9), ("a", 31), ("b", 33), ("b", 9000)]
            ).map(lambda part: [part[0]] * part[1]),
        ),
        st.booleans(),
    )
    text = st.builds(as_toml, changed(good, values))
    return files(st.one_of(text, text, text, st.builds("{}{}".format, dotted, text)))


class Overrun(BaseException):
    """A reader took longer than it may."""


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """Raise Overrun in a block that takes longer."""

    def stop(*_: object) -> None:
        raise Overrun

    former = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)  # again: a callback may swallow the first
    begun = time.process_time()
    try:
        yield
        if time.process_time() - begun > seconds:
            raise Overrun
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


def judge(read: Callable[[], object]) -> None:
    """Read; whatever comes but a result, or an error of ours that can be shown, fails the test."""
    with bounded():
        try:
            read()
        except GptcliError as error:
            check_error(error)


def check_error(error: GptcliError) -> None:
    """What must hold of an error: it is no bug of ours, and it says what, why and what to do."""
    shown = one_line(str(error))
    assert error.exit_code is not ExitCode.BUG, shown
    assert error.what, shown
    assert error.why, shown
    assert error.hint, shown
    assert len(shown) <= LONGEST_LINE, shown[:400]
    shown.encode("utf-8")
    json.dumps(error.to_dict(), allow_nan=False)
