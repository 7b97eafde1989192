"""The layout of a task's file: from TOML text to a checked `Task`.

Everything is checked when the file is read, so that a mistake is reported with its key and rule
instead of showing as a strange prompt. Not here: options and answer parameters are declared in
`gptcli.tasks.definition.parameters`, files are found in `gptcli.tasks.definition.catalog`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Literal, cast

from gptcli.errors import BadModel, BadTask, UsageError
from gptcli.options import Sampling
from gptcli.options.spec import Spec, flag_of, spec_of
from gptcli.system.strict_json import read_bytes
from gptcli.system.strict_toml import parse_toml
from gptcli.tasks.definition import templates
from gptcli.tasks.definition.parameters import STRATEGY, read_answer, read_options, read_parameter
from gptcli.tasks.definition.tables import TomlTable, is_line, near
from gptcli.tasks.definition.task import Long, Task, TaskOption, Variant

MAX_FILE_BYTES = 256 << 10
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TOP = tuple({item.name for item in fields(Task)} - {"name", "source"})
_WORDING = {"input", "examples"}  # the fields of a prompt, beside the options
_RUNS_OWN = {"num_return_sequences", "seed", "logprobs", "stop"}  # nothing a task can decide
_SAMPLING = {item.name: item for item in fields(Sampling) if item.name not in _RUNS_OWN}
_NO_TASK = "A task is a short text file; gptcli tasks new makes one."

DeclaredOptions = Mapping[str, TaskOption]
ExampleRows = tuple[Mapping[str, str], ...]


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
    columns = _columns(top, options)
    wording = _wording(top, columns, options)
    return Task(
        name=name,
        source=source,
        description=top.line("description"),
        help=top.text("help", ""),
        prompt=wording.prompt,
        example=wording.example,
        examples=wording.examples,
        columns=columns.templates,
        options=tuple(options.values()),
        piped=_piped(top, options),
        sampling=_sampling(top.table("sampling")),
        stop=top.texts("stop", ()),
        answer=read_answer(top.table("answer"), options),
        long=_long(top.table("long"), options),
        variants=_variants(top, columns, options, wording),
    )


def _toml(text: str, source: str) -> Mapping[str, object]:
    try:
        return parse_toml(text)
    except ValueError as error:
        hint = "Correct the file; a text with quotes stands between '''."
        raise BadTask(source, f"not TOML: {error}", hint) from None


@dataclass(frozen=True)
class _Columns:
    """Which columns the examples have: `named` is every one that the options can name."""

    templates: tuple[str, str]
    named: frozenset[str]


def _columns(top: TomlTable, options: DeclaredOptions) -> _Columns:
    given = top.texts("columns", Task.columns)
    if len(given) != 2 or given[0] == given[1] or not all(map(is_line, given)):
        raise top.error("columns", "it names two columns, for input and output")
    named = set()
    for template in given:
        names = _template(top, "columns", template, options)
        for name in names:  # else there may be no such column
            if options[name].kind != "choice" or options[name].default is None:
                rule = f"{{{name}}} is not an option of type choice with a default"
                raise top.error("columns", rule)
        for values in product(*(options[name].choices for name in names)):
            named.add(templates.fill(template, dict(zip(names, values, strict=True))))
    return _Columns((given[0], given[1]), frozenset(named))


def _template(table: TomlTable, key: str, template: str, known: Collection[str]) -> tuple[str, ...]:
    """The fields of a template, all of them `known`. Raises BadTask."""
    try:
        found = templates.fields(template)
    except templates.BadTemplate as error:
        raise table.error(key, str(error), "Write {{ and }} for a brace itself.") from None
    for name in found:
        if name not in known:
            raise table.error(key, f"{{{name}}} is no field of it", near(name, known))
    return found


@dataclass(frozen=True)
class _Wording:
    prompt: str
    example: str
    examples: ExampleRows


def _wording(table: TomlTable, columns: _Columns, options: DeclaredOptions) -> _Wording:
    """The prompt and its examples, of the task or of a variant. Raises BadTask."""
    prompt, example = table.text("prompt"), ""
    shown = _template(table, "prompt", prompt, {*options, *_WORDING})
    if "input" not in shown:
        raise table.error("prompt", "it must hold {input}")
    if "example" in table:
        example = table.text("example")
        inside = _template(table, "example", example, {*options, "input", "output"})
        for name in ("input", "output"):
            if name not in inside:
                raise table.error("example", f"it must hold {{{name}}}")
        if "examples" not in shown:
            raise table.error("example", "nothing shows it: the prompt does not hold {examples}")
    elif "examples" in shown:
        raise table.error("example", "it is missing, but the prompt holds {examples}")
    elif "examples" in table:
        raise table.error("examples", "nothing shows them: there is no example template")
    return _Wording(prompt, example, _rows(table, columns))


def _rows(table: TomlTable, columns: _Columns) -> ExampleRows:
    """The example rows, each with every column. Raises BadTask."""
    rows = table.tables("examples")
    for row in rows:
        for column in sorted(columns.named - row.values.keys()):
            raise row.error(column, "the example lacks this column")
        row.expect(columns.named)
        for column in row.values:
            row.text(column, "")
    return tuple(cast(Mapping[str, str], row.values) for row in rows)


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


def _variants(
    top: TomlTable, columns: _Columns, options: DeclaredOptions, main: _Wording
) -> tuple[Variant, ...]:
    found: dict[str, Variant] = {}
    for table in top.tables("variants"):
        table.expect([item.name for item in fields(Variant)])
        when = table.text("when")
        if when not in options:
            raise table.error(
                "when", f"{when[:40]!r} is no option of the task", near(when, options)
            )
        if when in found:
            raise table.error("when", f"there is another variant for {when} already")
        wording = _wording(table, columns, options)
        if bool(wording.example) != bool(main.example):  # --example would be dropped by one
            raise table.error("example", "either the task and all variants have one, or none has")
        found[when] = Variant(
            when=when, prompt=wording.prompt, example=wording.example, examples=wording.examples
        )
    return tuple(found.values())
