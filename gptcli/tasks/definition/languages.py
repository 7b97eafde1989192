"""A task in several languages: `[languages.zh]` and what stands in it.

A language has a prompt of its own, and what goes with it: examples, stop strings, variants,
parameters of the answer, defaults of options, and names that stand for the values of options in the
texts (`en` is 英语 in a Chinese prompt). The option `--language` chooses; which language `auto` is,
is decided by `gptcli.tasks.prompts`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace

from gptcli.tasks.definition.parameters import read_answer, read_defaults, read_parameters
from gptcli.tasks.definition.tables import TomlTable, is_line
from gptcli.tasks.definition.task import AUTO, LANGUAGE, InLanguage, Task, TaskOption
from gptcli.tasks.definition.wordings import (
    Columns,
    DeclaredOptions,
    PromptWording,
    read_variants,
    read_wording,
)

TAG = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
LANGUAGES = "languages"
HELP = "The prompt's language; auto is the model's, as its vocabulary tells."


def read_languages(
    top: TomlTable, columns: Columns, options: DeclaredOptions, main: PromptWording
) -> tuple[str, dict[str, InLanguage]]:
    """The language of the file's own prompt, and the others. Raises BadTask."""
    own = _tag(top, LANGUAGE, top.text(LANGUAGE)) if LANGUAGE in top else Task.language
    table = top.table(LANGUAGES)
    found = {}
    for tag in table.values:
        if _tag(table, tag, tag) == own:
            raise table.error(tag, "it is the language of the file's own prompt")
        found[tag] = _language(top, table.table(tag), columns, options, main)
    if found and LANGUAGE in options:
        rule = "the name is taken: a task in several languages has this option already"
        raise top.table("options").error(LANGUAGE, rule, "Choose another name for the option.")
    return own, found


def with_choice(
    options: DeclaredOptions, own: str, languages: Mapping[str, InLanguage]
) -> tuple[TaskOption, ...]:
    """The options of a task, and of one in several languages the choice of one."""
    if not languages:
        return tuple(options.values())
    varied = {name for language in languages.values() for name in language.defaults}
    marked = (replace(item, varies=item.name in varied) for item in options.values())
    choices = (AUTO, own, *languages)
    choice = TaskOption(name=LANGUAGE, kind="choice", help=HELP, default=AUTO, choices=choices)
    return (*marked, choice)


def _tag(table: TomlTable, key: str, text: str) -> str:
    if not TAG.fullmatch(text) or text == AUTO:
        raise table.error(key, f"{text[:40]!r} is no language, such as en, zh or pt-br")
    return text


def _language(
    top: TomlTable,
    table: TomlTable,
    columns: Columns,
    options: DeclaredOptions,
    main: PromptWording,
) -> InLanguage:
    table.expect([item.name for item in fields(InLanguage)])
    wording = read_wording(table, columns, options)
    if bool(wording.example) != bool(main.example):  # --example would be dropped by one
        raise table.error("example", "either the task has one in all languages, or in none")
    return InLanguage(
        prompt=wording.prompt,
        example=wording.example,
        examples=wording.examples if "examples" in table else main.examples,
        stop=table.texts("stop", top.texts("stop", ())),
        variants=read_variants(table, columns, options, wording),
        answer=read_parameters(
            table.table("answer"), read_answer(top.table("answer"), options), options
        ),
        defaults=read_defaults(table.table("defaults"), options),
        names=_names(table.table("names")),
        listing=table.text("listing", InLanguage.listing),
    )


def _names(table: TomlTable) -> dict[str, str]:
    for value in table.values:
        if not is_line(table.text(value)):
            raise table.error(value, "a name is one line")
    return {value: table.text(value) for value in table.values}
