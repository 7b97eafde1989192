"""`config.toml`: defaults of the user's own, names for models, and where a value comes from.

Top-level keys are options of every command that has them and takes the value, a table `[generate]`
holds those of one command, `[models.gpt2]` those that hold when that model is asked for, and
`[aliases]` gives models short names. Names and types are those of the groups of options, so that
the same declarations check a flag and a line of the file. Reading (`gptcli.config.reading`) happens
on every run and costs little; writing (`gptcli.config.editing`) keeps comments and order.
"""

from gptcli.config.aliases import target
from gptcli.config.naming import values_of
from gptcli.config.reading import ALIAS_TABLE, Scope, defaults, find, place, read

__all__ = [
    "ALIAS_TABLE",
    "Scope",
    "defaults",
    "find",
    "place",
    "read",
    "target",
    "values_of",
]
