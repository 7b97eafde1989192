"""Task files that use every key, and how a test reads them."""

from __future__ import annotations

from gptcli.tasks.definition import schema
from gptcli.tasks.definition.task import Task

TOP = 'description = "Try."\nprompt = "{input}"\n'


SHOTS = 'description = "Try."\nprompt = "{examples}{input}"\nexample = "{input} {output}"\n'


FULL = r'''
description = "Say it."
help = """
Two
lines."""
prompt = "{examples}{style}: {input} {{x}}"
example = "{input} = {output}\n"
columns = ["{from}", "{to}"]
examples = [{ en = "yes", fr = "oui" }, { en = "no", fr = "" }]
stop = ["\n"]
piped = "context"

[options]
style = { type = "text", help = "How." }
from = { type = "choice", help = "In.", choices = ["en", "fr"], default = "en" }
to = { type = "choice", help = "A.", choices = ["en", "fr"], default = "fr", differs_from = "from" }
count = { type = "integer", help = "How many.", low = 1, high = 9, default = 2 }
share = { type = "number", help = "How much.", low = 0, default = 1 }
loud = { type = "flag", help = "Shout." }
parts = { type = "list", help = "Which.", default = ["a", "b c"] }
context = { type = "file", help = "Around it." }

[sampling]
temperature = 0
bad_words = [" x"]
logit_bias = ["50256=-100"]

[answer]
kind = "sentences"
sentences = "{count}"
ratio = 0.5
abstain_below = -1.5
abstain = "unknown"

[long]
field = "context"
strategy = "window"
unit = "sentence"

[[variants]]
when = "context"
prompt = "{context} {examples}{input}"
example = "{input}: {output}\n"
'''


def task(text: str = FULL) -> Task:
    return schema.parse(text, "try", "try.toml")
