"""The layout of a task's file: from TOML text to a checked `Task`.

Everything is checked when the file is read, so that a mistake is reported with its key and rule
instead of showing as a strange prompt. Not here: options and answer parameters are declared in
`gptcli.tasks.definition.parameters`, prompts are read in `gptcli.tasks.definition.wordings`, files
are found in `gptcli.tasks.definition.catalog`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Literal, cast

from gptcli.errors import BadModel, BadTask, UsageError
from gptcli.options import Sampling
from gptcli.options.spec import Spec, flag_of, spec_of
from gptcli.system.strict_json import read_bytes
from gptcli.system.strict_toml import parse_toml
from gptcli.tasks.definition.languages import read_languages, with_choice
from gptcli.tasks.definition.parameters import STRATEGY, read_answer, read_options, read_parameter
from gptcli.tasks.definition.tables import TomlTable, near
from gptcli.tasks.definition.task import Long, Task
from gptcli.tasks.definition.wordings import (
    DeclaredOptions,
    read_columns,
    read_variants,
    read_wording,
)

MAX_FILE_BYTES = 256 << 10
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TOP = tuple({item.name for item in fields(Task)} - {"name", "source", "names", "listing"})
_RUNS_OWN = {"num_return_sequences", "seed", "logprobs", "stop"}  # nothing a task can decide
_SAMPLING = {item.name: item for item in fields(Sampling) if item.name not in _RUNS_OWN}
_NO_TASK = "A task is a short text file; gptcli tasks new makes one."


def read(path: Path) -> Task:
    """The task of a file, named as the file is. Raises BadTask, or MissingInput."""
    return parse(read_text(path), path.stem, str(path))


def read_text(path: Path) -> str:
    """The text of a task's file, unchecked.

    Raises MissingInput where it cannot be read; BadTask unless it is a regular file of at most 256
    KiB in UTF-8.
    """
    try:
        return read_bytes(path, MAX_FILE_BYTES).decode("utf-8").removeprefix("\ufeff")
    except BadModel as error:
        raise BadTask(str(path), error.why.removeprefix(f"{path.name}: "), _NO_TASK) from None
    except UnicodeDecodeError as error:
        why = f"invalid UTF-8 at byte {error.start}"
        raise BadTask(str(path), why, "Convert it with iconv.") from None


def parse(text: str, name: str, source: str) -> Task:
    """The task `name` of a file's text; errors name the file as `source`.

    Raises BadTask, naming file, key and rule, for anything that `gptcli.tasks.definition.task` does
    not allow.
    """
    if not NAME.fullmatch(name):
        rule = "a task's name is small letters, digits, - and _, a letter first, 64 at most"
        raise BadTask(source, rule, "Rename the file.")
    top = TomlTable(source, "", _toml(text, source))
    top.expect(_TOP)
    options = read_options(top.table("options"))
    columns = read_columns(top, options)
    wording = read_wording(top, columns, options)
    language, languages = read_languages(top, columns, options, wording)
    return Task(
        name=name,
        source=source,
        description=top.line("description"),
        help=top.text("help", ""),
        prompt=wording.prompt,
        example=wording.example,
        examples=wording.examples,
        columns=columns.templates,
        options=with_choice(options, language, languages),
        piped=_piped(top, options),
        sampling=_sampling(top.table("sampling")),
        stop=top.texts("stop", ()),
        answer=read_answer(top.table("answer"), options),
        long=_long(top.table("long"), options),
        variants=read_variants(top, columns, options, wording),
        language=language,
        languages=languages,
    )


def _toml(text: str, source: str) -> Mapping[str, object]:
    try:
        return parse_toml(text)
    except ValueError as error:
        hint = "Correct the file; a text with quotes stands between '''."
        raise BadTask(source, f"not TOML: {error}", hint) from None


def _sampling(table: TomlTable) -> dict[str, object]:
    """Defaults of Sampling's fields; constructing one checks them. Raises BadTask."""
    table.expect(_SAMPLING)
    found: dict[str, object] = {}
    for key, value in table.values.items():
        item = _SAMPLING[key]
        spec = spec_of(item)
        if spec.instead:  # a flag could not take it back
            raise table.error(key, "a task cannot set it", spec.instead)
        try:
            if isinstance(item.default, tuple) and not isinstance(value, list):
                raise UsageError(key, f"{value!r} is not a tuple of str")
            found[key] = _parsed(table, key, spec) if isinstance(value, list) else value
            Sampling(**found)  # type: ignore[arg-type]
        except UsageError as error:
            hint = f"See {flag_of(item)} in gptcli generate --help."
            raise table.error(key, error.why, hint) from None
    return found


def _parsed(table: TomlTable, key: str, spec: Spec) -> tuple[object, ...]:
    """A list of texts as the flag would take them one by one."""
    texts = table.texts(key)
    return tuple(spec.parse(text) for text in texts) if spec.parse else texts


def _piped(top: TomlTable, options: DeclaredOptions) -> str | None:
    if "piped" not in top:
        return None
    name, known = top.text("piped"), _of_text(options)
    if name not in known:
        raise top.error("piped", f"{name[:40]!r} is no option with a text", near(name, known))
    return name


def _of_text(options: DeclaredOptions) -> list[str]:
    return [name for name, item in options.items() if item.kind in ("text", "file")]


def _long(table: TomlTable, options: DeclaredOptions) -> Long:
    table.expect([item.name for item in fields(Long)])
    strategy = Long.strategy
    if "strategy" in table:
        strategy = str(read_parameter(table, STRATEGY, options))
    unit = table.word("unit", ("sentence", "passage"), Long.unit)
    return Long(
        field=table.word("field", ["input", *_of_text(options)], Long.field),
        strategy=strategy,
        unit=cast(Literal["sentence", "passage"], unit),
    )
