"""Which commands there are.

They are listed with a summary and imported only when called, so that `gptcli --help` and a mistyped
name cost nothing. Left out: how one is loaded, see `gptcli.cli.root`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A command in the list: `module` holds a function or a Typer app of the same `name`.

    Where it has a function `command`, that one gives the command of any name.
    """

    name: str
    module: str
    summary: str
    panel: str | None = None
    attribute: str | None = None  # its name in the module, where that differs

    def target(self) -> Any:
        """Import the function or the Typer app."""
        module = import_module(self.module)
        if self.panel == TASKS:
            return module.command(self.name)
        return getattr(module, self.attribute or self.name.replace("-", "_"))


TASKS = "Tasks"  # the panel of commands that are made from a task's file

COMMANDS = (
    Entry("generate", "gptcli.cli.generate", "Continue a prompt."),
    Entry("chat", "gptcli.cli.chat", "Talk with a model."),
    Entry("summarize", "gptcli.cli.task", "Summarize a text.", TASKS),
    Entry("translate", "gptcli.cli.task", "Translate a text, sentence by sentence.", TASKS),
    Entry("answer", "gptcli.cli.task", "Answer a question, from a text or from memory.", TASKS),
    Entry("classify", "gptcli.cli.task", "Classify a text by the likelihood of labels.", TASKS),
    Entry("extract", "gptcli.cli.task", "Extract names from a text, with their places.", TASKS),
    Entry("code", "gptcli.cli.task", "Complete code.", TASKS),
    Entry("run", "gptcli.cli.task", "Run a task by its name."),
    Entry("tasks", "gptcli.cli.tasks", "List, show and make tasks."),
    Entry("batch", "gptcli.cli.batch", "Answer many prompts from files, durably."),
    Entry("replay", "gptcli.cli.replay", "Run a record again."),
    Entry("score", "gptcli.cli.score", "Score texts: perplexity, surprisal, minimal pairs."),
    Entry("inspect", "gptcli.cli.inspect", "Show how a model reads a text."),
    Entry("models", "gptcli.cli.models", "Know and keep the models on this machine."),
    Entry("config", "gptcli.cli.config", "Show and change the defaults in config.toml."),
    Entry(
        "doctor",
        "gptcli.cli.doctor",
        "Look for what is wrong, and say what mends it.",
    ),
    Entry("cache", "gptcli.cli.cache", "Show and remove the int8 weights kept on disk."),
    Entry("bench", "gptcli.cli.bench", "Measure start-up, memory and decoding speed."),
    Entry("docs", "gptcli.cli.docs", "Show a guide, or list them all."),
)


def table_names() -> list[str]:
    """The names that a table of the configuration may have: of commands and of tasks."""
    from gptcli.tasks import catalog

    return [entry.name for entry in COMMANDS] + catalog.names()


def entry_of(name: str) -> Entry:
    """The command of a name, else what the task of that name would be."""
    tasks = Entry(name, "gptcli.cli.task", "", TASKS)
    return next((entry for entry in COMMANDS if entry.name == name), tasks)
