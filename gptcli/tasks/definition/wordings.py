"""How a task's file words its prompts: templates, examples and their columns, variants.

The file has one wording of its own, and may have another for an option that is given and for each
further language. Not here: languages are in `gptcli.tasks.definition.languages`, the rest of the
file in `gptcli.tasks.definition.schema`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import cast

from gptcli.tasks.definition import templates
from gptcli.tasks.definition.tables import TomlTable, is_line, near
from gptcli.tasks.definition.task import Task, TaskOption, Variant

_FIELDS = {"input", "examples"}  # of a prompt, beside the options

DeclaredOptions = Mapping[str, TaskOption]
ExampleRows = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Columns:
    """Which columns the examples have: `named` is every one that the options can name."""

    templates: tuple[str, str]
    named: frozenset[str]


def read_columns(top: TomlTable, options: DeclaredOptions) -> Columns:
    """The columns of all examples. Raises BadTask."""
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
    return Columns((given[0], given[1]), frozenset(named))


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
class PromptWording:
    """Templates of a prompt and of an example, and the examples."""

    prompt: str
    example: str
    examples: ExampleRows


def read_wording(table: TomlTable, columns: Columns, options: DeclaredOptions) -> PromptWording:
    """The prompt and its examples, of the task or of a variant. Raises BadTask."""
    prompt, example = table.text("prompt"), ""
    shown = _template(table, "prompt", prompt, {*options, *_FIELDS})
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
    return PromptWording(prompt, example, _rows(table, columns))


def _rows(table: TomlTable, columns: Columns) -> ExampleRows:
    """The example rows, each with every column. Raises BadTask."""
    rows = table.tables("examples")
    for row in rows:
        for column in sorted(columns.named - row.values.keys()):
            raise row.error(column, "the example lacks this column")
        row.expect(columns.named)
        for column in row.values:
            row.text(column, "")
    return tuple(cast(Mapping[str, str], row.values) for row in rows)


def read_variants(
    top: TomlTable, columns: Columns, options: DeclaredOptions, main: PromptWording
) -> tuple[Variant, ...]:
    """The variants of the file, or of one of its languages. Raises BadTask."""
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
        wording = read_wording(table, columns, options)
        if bool(wording.example) != bool(main.example):  # --example would be dropped by one
            raise table.error("example", "either the task and all variants have one, or none has")
        found[when] = Variant(
            when=when, prompt=wording.prompt, example=wording.example, examples=wording.examples
        )
    return tuple(found.values())
