"""Which commands there are.

They are listed with a summary and imported only when called, so that `gptcli --help` and a mistyped
name cost nothing. What a command's function declares is in `gptcli.cli.declaration`, how one is
loaded in `gptcli.cli.root`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

TASKS = "Tasks"  # the panel of commands that are made from a task's file
_TASK = "gptcli.cli.commands.task"


@dataclass(frozen=True)
class CommandEntry:
    """A command in the list: `module` holds a function or a Typer app of the same `name`.

    `parts` are the commands of a group, where each is imported by itself.
    """

    name: str
    module: str
    summary: str
    panel: str | None = None
    attribute: str | None = None  # its name in the module, where that differs
    parts: tuple[CommandEntry, ...] = ()

    def target(self) -> Any:
        """Import the function or the Typer app; a task's function is made from its file."""
        module = import_module(self.module)
        if self.panel == TASKS:
            return module.command(self.name)
        return getattr(module, self.attribute or self.name.replace("-", "_"))


def _task(name: str, summary: str) -> CommandEntry:
    return CommandEntry(name, _TASK, summary, TASKS)


MODELS = (
    CommandEntry(
        "list",
        "gptcli.cli.commands.models.list",
        "List the models on this machine.",
        attribute="list_models",
    ),
    CommandEntry(
        "info",
        "gptcli.cli.commands.models.info",
        "Show what is known of a model, without loading it.",
    ),
    CommandEntry("path", "gptcli.cli.commands.models.info", "Print the folder of a model."),
    CommandEntry(
        "verify",
        "gptcli.cli.commands.models.verify",
        "Compare a model's files with their checksums.",
    ),
    CommandEntry(
        "pull",
        "gptcli.cli.commands.models.pull",
        "Download or update a model, and check its files.",
    ),
    CommandEntry("rm", "gptcli.cli.commands.models.rm", "Remove a model from the cache."),
    CommandEntry(
        "alias", "gptcli.cli.commands.models.alias", "Give models short names of your own."
    ),
    CommandEntry(
        "convert", "gptcli.cli.commands.models.convert", "Convert a model of another program."
    ),
    CommandEntry(
        "merge", "gptcli.cli.commands.models.merge", "Make one model of a base and its adapters."
    ),
)

AUDIT = (
    CommandEntry(
        "bias",
        "gptcli.cli.commands.audit.bias",
        "Measure which of two sentences a model prefers, over sets of pairs.",
    ),
    CommandEntry(
        "toxicity",
        "gptcli.cli.commands.audit.toxicity",
        "Measure how often a model writes what a list names.",
    ),
    CommandEntry(
        "compare",
        "gptcli.cli.commands.audit.compare",
        "Measure what changed from one model to another.",
    ),
)

TRAIN = (
    CommandEntry("run", "gptcli.cli.commands.train.run", "Pre-train or fine-tune a GPT-2."),
    CommandEntry(
        "tokenizer",
        "gptcli.cli.commands.train.tokenizer",
        "Train a tokenizer on your own text.",
    ),
)

COMMANDS = (
    CommandEntry("generate", "gptcli.cli.commands.generate", "Continue a prompt."),
    CommandEntry("chat", "gptcli.cli.commands.chat", "Talk with a model."),
    CommandEntry(
        "serve",
        "gptcli.cli.commands.serve",
        "Serve a model to OpenAI's clients, over HTTP, and a page to write with it.",
    ),
    _task("summarize", "Summarize a text."),
    _task("translate", "Translate a text, sentence by sentence."),
    _task("answer", "Answer a question, from a text or from memory."),
    _task("classify", "Classify a text by the likelihood of labels."),
    _task("extract", "Extract names from a text, with their places."),
    _task("code", "Complete code."),
    CommandEntry("run", _TASK, "Run a task by its name."),
    CommandEntry("tasks", "gptcli.cli.commands.tasks", "List, show and make tasks."),
    CommandEntry("batch", "gptcli.cli.commands.batch", "Answer many prompts from files, durably."),
    CommandEntry("replay", "gptcli.cli.commands.replay", "Run a record again."),
    CommandEntry(
        "score",
        "gptcli.cli.commands.score",
        "Score texts: perplexity, surprisal, minimal pairs.",
    ),
    CommandEntry(
        "inspect",
        "gptcli.cli.commands.inspect",
        "Show how a model reads a text.",
    ),
    CommandEntry(
        "train",
        "gptcli.cli.commands.train.group",
        "Pre-train and fine-tune GPT-2 on your own text.",
        parts=TRAIN,
    ),
    CommandEntry(
        "audit",
        "gptcli.cli.commands.audit.group",
        "Measure the bias and the toxicity of a model.",
        parts=AUDIT,
    ),
    CommandEntry(
        "models",
        "gptcli.cli.commands.models.group",
        "Manage the models on this machine.",
        parts=MODELS,
    ),
    CommandEntry(
        "config", "gptcli.cli.commands.config", "Show and change the defaults in config.toml."
    ),
    CommandEntry(
        "doctor", "gptcli.cli.commands.doctor", "Check this installation and suggest fixes."
    ),
    CommandEntry(
        "cache", "gptcli.cli.commands.cache", "Show and remove the int8 weights kept on disk."
    ),
    CommandEntry(
        "bench", "gptcli.cli.commands.bench", "Measure start-up, memory and decoding speed."
    ),
    CommandEntry("docs", "gptcli.cli.commands.docs", "Show a guide, or list them all."),
)


def table_names() -> list[str]:
    """The names that a table of the configuration may have: of commands and of tasks."""
    from gptcli.tasks.definition import catalog

    return list(dict.fromkeys([*(entry.name for entry in COMMANDS), *catalog.names()]))


def entry_of(name: str) -> CommandEntry:
    """The command of a name, else what the task of that name would be."""
    tasks = CommandEntry(name, _TASK, "", TASKS)
    return next((entry for entry in COMMANDS if entry.name == name), tasks)
