"""Every reader of a user's or a stranger's file, each with files that are nearly good.

`READERS` is the list; a reader that is new in gptcli belongs in it. Models are in
`support.fuzzed_models`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gptcli import config
from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.batch.output import manifest, records
from gptcli.batch.output.tables import convert
from gptcli.chat import Conversation, load
from gptcli.chat_templates import Transcript
from gptcli.cli import option_groups
from gptcli.config import aliases, editing, keys, settings
from gptcli.inputs.columns import CarriedNames
from gptcli.inputs.prompt import read_prompt
from gptcli.options import Input, Load, Output, Sampling, TableInput, Talk
from gptcli.options.registry import options_of
from gptcli.options.spec import environment_name
from gptcli.replay import record
from gptcli.scoring.pair_files import PairColumns, read_pairs
from gptcli.scoring.texts import TextSource, read_texts
from gptcli.tasks.definition import options as task_options
from gptcli.tasks.definition import schema
from support.fake_engine import INFO, FakeEngine
from support.fuzzing import (
    NUMBERS,
    ODD_TEXTS,
    TEXTS,
    VALUES,
    WORDS,
    Raw,
    Times,
    as_json,
    changed,
    check_error,
    files,
    json_files,
    toml_files,
)
from support.task_files import FULL, SHOTS, TOP

Case = Any


@dataclass(frozen=True)
class Reader:
    """What makes a case, and what reads it; the folder is empty or has an earlier case in it."""

    name: str
    cases: st.SearchStrategy[Case]
    read: Callable[[Path, Case], object]

    def __str__(self) -> str:
        return self.name


def unheard(notice: str) -> None:
    """A note that must at least be a text."""
    assert notice


def drained(found: Iterable[Any]) -> list[Any]:
    """All of them; errors that they hold are errors of ours, what they carry is JSON."""
    items = [item for item in found if item is not None]
    for item in items:
        if getattr(item, "error", None) is not None:
            check_error(item.error)
        json.dumps(getattr(item, "carried", None), allow_nan=False)
    return items


# config.toml, variables

CONFIG = {
    "temperature": 0.7,
    "top_k": 5,
    "seed": 3,
    "stop": ["\n", "END"],
    "model": "mine",
    "device": "cpu",
    "max_new_tokens": 7,
    "echo": True,
    "logit_bias": ["50256=-100"],
    "generate": {"top_p": 0.5, "format": "json", "num_return_sequences": 2},
    "batch": {"batch_size": 8, "fsync": "off", "max_failures": 3},
    "summarize": {"sentences": 2},
    "inspect": {"layer": ["1"], "top": 3},
    "models": {"gpt2": {"temperature": 0.5, "dtype": "int8"}, "mine": {"threads": 2}},
    "aliases": {"mine": "gpt2", "other": "a/b"},
}
GROUPS = (Input, Load, Sampling, Output, Talk)


@cache
def _every() -> tuple[type, ...]:
    return tuple(option_groups.every())


def read_config(folder: Path, data: bytes) -> None:
    """All that commands and `gptcli config` and `models alias` do with the file."""
    path = folder / "config.toml"
    path.write_bytes(data)
    scope = config.Scope(
        "generate", GROUPS, lambda: ["generate", "batch", "inspect", "summarize"], others=_every
    )
    common, tables = options_of(_every()), {"generate": lambda: options_of(GROUPS)}
    for fault in settings.faults(path, common, tables):
        check_error(fault)
    found = settings.written(str(path))
    json.dumps([repr(item.to_dict()) for item in found])
    aliases.target("mine", str(path))
    config.defaults(str(path), scope)
    settings.holding(str(path), scope)
    editing.put(path, ("models", "gpt2", "top_p"), 0.5)
    editing.drop(path, ("models", "gpt2", "top_p"))


def read_variables(folder: Path, case: tuple[str, str]) -> None:
    """A variable, and the same text given to `config set`."""
    name, text = case
    known = options_of(_every())
    variable = environment_name(name)
    os.environ[variable] = text
    try:
        settings.of_environment(_every())
    finally:
        del os.environ[variable]
    keys.parsed((name,), [text], known)


def read_key(folder: Path, key: str) -> None:
    """The key of `config set`."""
    parts = keys.split(key)
    keys.known_at(parts, options_of(_every()), {"generate": lambda: options_of(GROUPS)})


VARIABLES = st.one_of(
    st.builds(str, NUMBERS),
    TEXTS,
    st.sampled_from(["50256=-100", Times("9", 5000, "{}=1"), "a=1e999"]).map(str),
).filter(lambda text: "\0" not in text and text.isprintable())
KEYS = st.one_of(
    TEXTS,
    WORDS,
    st.sampled_from(
        [
            Times(".a", 40, "a{}"),
            Times(".a", 30000, "a{}"),
            Times("[", 2000),
            '"a"."b"."c"',
            "generate.top_p",
            "a = {b",
            "models.gpt2.top_p",
            "[models]\na",
            "#",
            Times("f", 6000, "a=0x{}#"),
            Times("9", 5000, "a={}#"),
        ]
    ).map(str),
)

# Tasks


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


TASKS = [
    _toml(FULL),
    _toml(SHOTS),
    _toml(TOP + '[answer]\nkind = "labels"\nlabels = ["a", "b"]\ncalibration = "pmi"\n'),
    _toml(
        TOP
        + '[answer]\nkind = "spans"\ntypes = ["a"]\n[options]\na = { type = "list", help = "x" }'
    ),
]


def read_task(folder: Path, data: bytes) -> None:
    """A task, and its options as a class."""
    path = folder / "try.toml"
    path.write_bytes(data)
    task = schema.read(path)
    task_options.values(task, task_options.options_class(task)())


# Records, conversations, outputs

RUN = {
    "gptcli_record": 1,
    "command": "generate",
    "model": "tiny-tales",
    "revision": None,
    "dtype": "float32",
    "device": "cpu",
    "threads": 2,
    "slots": 1,
    "beams": False,
    "options": {"model": "tiny-tales", "threads": 2, "offline": True},
    "versions": {"gptcli": "0.1", "python": "3.11"},
}
ENTRY = {
    "id": "0",
    "prompt": "Once",
    "prompt_sha256": "0" * 64,
    "sampling": {"seed": 3, "temperature": 0.5, "stop": ["a"], "logit_bias": [["5", 1.0]]},
    "on_overflow": "error",
    "choices": None,
    "answers": [
        {"text": " a", "sha256": "0" * 64, "finish_reason": "stop", "tokens": 3, "logprob": -1.0}
    ],
}


def _lines(*values: Any) -> str:
    return "".join(as_json(value) + "\n" for value in values)


def read_record(folder: Path, data: bytes) -> None:
    """A record up to the requests and what is compared."""
    path = folder / "run.jsonl"
    path.write_bytes(data)
    run, entries = record.read(str(path))
    json.dumps(run.to_dict())
    for entry in entries:
        json.dumps(entry.to_dict())
        entry.request(entry.prompt or "", "0")


CHAT = {
    "version": 1,
    "model": "gpt2",
    "template": "transcript",
    "system": "Talk.",
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello.", "written": " Hello."},
    ],
}


def read_chat(folder: Path, data: bytes) -> None:
    """A conversation, and its next prompt."""
    path = folder / "talk.json"
    path.write_bytes(data)
    engine = FakeEngine(info=replace(INFO, context=10_000))
    conversation = Conversation(engine, Transcript(), Sampling(), "Talk.")
    load(conversation, str(path))
    conversation.template.prompt(conversation.system, conversation.turns)


MANIFEST = {
    "format": 1,
    "version": "0.1.0",
    "model": "gpt2",
    "revision": None,
    "inputs": [{"name": "a.txt", "size": 3, "sha256": "0" * 64}],
    "settings": {"top_p": 0.5, "stop": ["a"], "task": None},
    "rows": 3,
    "failed": 0,
    "complete": True,
}
NOW = manifest.RunManifest(
    version="0.1.0",
    inputs=(Fingerprint("a.txt", 3, "1" * 64),),
    settings={"top_p": 0.6, "stop": ("a",)},
    model="gpt2",
)


def read_manifest(folder: Path, data: bytes) -> None:
    """A manifest, and how it differs from another."""
    path = folder / "out.manifest.json"
    path.write_bytes(data)
    then = manifest.read_manifest(path)
    if then is not None:
        "; ".join(manifest.differences(then, NOW)).encode("utf-8", "backslashreplace")


ROW = {
    "key": "0:0f3a5c7e9b1d2f40",
    "id": "0",
    "index": 0,
    "prompt": "Once",
    "text": " upon",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "error": None,
    "note": [1, {"a": 2}],
}


def read_output(folder: Path, data: bytes) -> None:
    """The rows of an output, then as a table, and under another key."""
    path = folder / "out.jsonl"
    path.write_bytes(data)
    found = records.scan(path, "out")
    for line in data.splitlines(keepends=True)[: len(found)]:
        records.rekeyed(line, "0:0000000000000000", "7")
    path.write_bytes(data[: found.size])
    for shape in ("json", "csv", "parquet"):
        with (folder / f"out.{shape}").open("wb") as file:
            convert(path, file.fileno(), shape)


# Rows, lines, prompts

OBJECT = {
    "id": "a1",
    "prompt": "Once",
    "seed": 3,
    "temperature": 0.5,
    "stop": ["x"],
    "logit_bias": {"50256": -100},
    "note": {"a": [1, None]},
    "sampling": {"top_p": 0.5, "top_k": 3},
}
OPENAI = {
    "custom_id": "r1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {
        "model": "gpt2",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
        ],
        "max_completion_tokens": 5,
        "logprobs": True,
        "top_logprobs": 2,
        "stop": "x",
        "n": 1,
    },
}
ASKED = {**OPENAI, "url": "/v1/completions", "body": {"prompt": "Once", "max_tokens": 3}}
JSON_ROWS = st.lists(
    changed(st.sampled_from([OBJECT, OPENAI, ASKED, "Once"])), min_size=1, max_size=4
).map(lambda values: _lines(*values))
CELLS = st.one_of(
    TEXTS,
    WORDS,
    st.builds(str, NUMBERS),
    st.builds(as_json, VALUES),
    st.sampled_from(
        ['"', 'a "b" c', '"a', '"a""b"', '"a\nb"', "[1]", '{"top_p": 1}', "a;b", "a|b"]
    ),
)
TITLES = st.one_of(
    st.sampled_from(
        ["prompt", "text", "id", "seed", "stop", "temperature", "sampling", "note", ""]
    ),
    st.sampled_from(["logit_bias", "sentence_good", "sentence_bad", "top_k", "logprobs"]),
    TEXTS,
)
FIRST = st.sampled_from([""] * 12 + [f"sep={mark}\n" for mark in ';,\t|"\r\0 é\\x'] + ["sep=\\t\n"])


@st.composite
def table_texts(draw: st.DrawFn) -> str:
    """A table by any separator, whose rows may be too long or short."""
    mark = draw(st.sampled_from([",", ",", "\t", ";", "|", "\0", " "]))
    header = draw(st.lists(TITLES, min_size=1, max_size=5))
    if draw(st.booleans()):
        header[0] = "prompt"
    body = draw(st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=4))
    quote = draw(st.booleans())
    lines = [mark.join(header)]
    for cells in body:
        shown = ['"' + cell.replace('"', '""') + '"' if quote else cell for cell in cells]
        lines.append(mark.join(shown))
    return draw(FIRST) + draw(st.sampled_from(["\n", "\r\n"])).join(lines) + "\n"


TABLES = st.just({}) | st.fixed_dictionaries(
    {},
    optional={
        "column": st.one_of(st.sampled_from(["prompt", "1", "text", "\u00b2"]), TEXTS),
        "id_column": st.one_of(st.sampled_from(["id", "2", "note"]), TEXTS),
        "delimiter": st.one_of(st.sampled_from([",", "tab", '"', "\r", "é", " "]), ODD_TEXTS),
        "quoting": st.sampled_from(["minimal", "none"]),
        "errors": st.sampled_from(["strict", "replace"]),
    },
)
BATCHES = st.one_of(
    st.just({}),
    st.builds(
        lambda table, more: {**table, **more},
        TABLES,
        st.fixed_dictionaries(
            {},
            optional={
                "allow_empty": st.booleans(),
                "row_settings": st.booleans(),
                "null": st.booleans(),
                "input_format": st.sampled_from(
                    ["auto", "lines", "jsonl", "csv", "tsv", "openai", "files", "parquet"]
                ),
            },
        ),
    ),
)


def read_rows(folder: Path, case: tuple[str, bytes, dict[str, Any]]) -> None:
    """All rows of a batch's input, each as a line of the output."""
    suffix, data, options = case
    path = folder / f"in{suffix}"
    path.write_bytes(gzip.compress(data, 1) if suffix.endswith(".gz") else data)
    reading = BatchInput(**options)
    try:
        for row in drained(rows([str(path)], reading, None)):
            records.encode(row.key, {"id": row.id, "prompt": row.text, **row.carried})
            Sampling(**row.overrides)
    finally:
        path.unlink()


def read_table_of_pairs(folder: Path, case: tuple[str, bytes, dict[str, Any]]) -> None:
    """Minimal pairs."""
    suffix, data, options = case
    options = dict(options)
    errors = options.pop("errors", "strict")
    columns = PairColumns(table=TableInput(**options), errors=errors)
    drained(read_pairs(data, f"pairs{suffix}", columns, unheard, CarriedNames(["id"], unheard)))


def read_scored(folder: Path, case: tuple[str, bytes, dict[str, Any]]) -> None:
    """Texts to score, by rows or whole; some with regions."""
    suffix, data, options = case
    path = folder / f"texts{suffix}"
    path.write_bytes(data)
    options = dict(options)
    errors = options.pop("errors", "strict")
    for lines in (False, True):
        source = TextSource(
            files=[str(path)],
            lines=lines,
            errors=errors,
            table=TableInput(**options),
            regions="note" if lines else None,
        )
        drained(read_texts(source, None, unheard, CarriedNames(["id"], unheard)))


def read_prompts(folder: Path, data: bytes) -> None:
    """A prompt from a file, from standard input, and both."""
    path = folder / "prompt.txt"
    path.write_bytes(data)
    for errors in ("strict", "replace"):
        found = read_prompt(None, Input(file=str(path), errors=errors), None)
        found.text.encode("utf-8")
        read_prompt("and", Input(errors=errors), io.BytesIO(data))


PAIRS = [
    {"sentence_good": "The cats sit.", "sentence_bad": "The cats sits.", "id": 1, "note": "x"},
    {"good": "A", "bad": "B"},
]
PAIR_ROWS = st.lists(changed(st.sampled_from(PAIRS)), min_size=1, max_size=3).map(
    lambda values: _lines(*values)
)
ROW_SUFFIXES = st.sampled_from(
    [".jsonl", ".jsonl", ".csv", ".tsv", ".txt", "", ".jsonl.gz", ".csv.gz"]
)
ROWS = st.one_of(JSON_ROWS, table_texts())
OUTPUTS = st.lists(changed(st.just(ROW)), min_size=1, max_size=3).map(
    lambda values: _lines(
        *(
            {**value, "key": Raw(f'"{place}:0f3a5c7e9b1d2f40"')}
            if isinstance(value, dict)
            else value
            for place, value in enumerate(values)
        )
    )
)
RECORDS = st.builds(_lines, changed(st.just(RUN)), changed(st.just(ENTRY)))

READERS = [
    Reader("config.toml", toml_files(st.just(CONFIG)), read_config),
    Reader(
        "variables",
        st.tuples(
            st.sampled_from(
                [
                    "seed",
                    "top_p",
                    "top_k",
                    "stop",
                    "echo",
                    "logit_bias",
                    "threads",
                    "format",
                    "model",
                    "batch_size",
                    "max_new_tokens",
                    "delimiter",
                    "draft",
                    "temperature",
                    "layer",
                ]
            ),
            VARIABLES,
        ),
        read_variables,
    ),
    Reader("keys of config", KEYS, read_key),
    Reader("task files", toml_files(st.sampled_from(TASKS)), read_task),
    Reader("records", files(RECORDS), read_record),
    Reader("chat files", json_files(st.just(CHAT)), read_chat),
    Reader("manifests", json_files(st.just(MANIFEST)), read_manifest),
    Reader("outputs of a batch", files(OUTPUTS), read_output),
    Reader("rows of a batch", st.tuples(ROW_SUFFIXES, files(ROWS), BATCHES), read_rows),
    Reader(
        "pairs",
        st.tuples(
            st.sampled_from([".jsonl", ".csv", ".tsv", ""]),
            files(st.one_of(PAIR_ROWS, table_texts())),
            TABLES,
        ),
        read_table_of_pairs,
    ),
    Reader(
        "texts to score",
        st.tuples(st.sampled_from([".jsonl", ".csv", ".tsv", ".txt"]), files(ROWS), TABLES),
        read_scored,
    ),
    Reader("prompts", files(st.one_of(TEXTS, st.text(max_size=60))), read_prompts),
]
