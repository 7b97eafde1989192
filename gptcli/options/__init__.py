"""Every option, declared once: its name, default, range and help.

What several groups share is in `shared`; which options a set of groups has is computed in
`registry`, which command has which group in `gptcli.cli.option_groups`. The same frozen dataclasses
are filled from flags (`gptcli.cli.flags`), from the environment, from `config.toml` and from
Python. A bad value fails in the constructor, before any model is looked for.
"""

from gptcli.options.common import (
    Agreement,
    AsJson,
    Format,
    Input,
    Many,
    Output,
    Overwrite,
    Record,
    TableInput,
    Talk,
)
from gptcli.options.model import Device, Dtype, HubSource, Load, Network
from gptcli.options.sampling import COLDEST, DEFAULT_NEW_TOKENS, Filters, Sampling
from gptcli.options.shared import Overflow

__all__ = [
    "COLDEST",
    "DEFAULT_NEW_TOKENS",
    "Agreement",
    "AsJson",
    "Device",
    "Dtype",
    "Filters",
    "Format",
    "HubSource",
    "Input",
    "Load",
    "Many",
    "Network",
    "Output",
    "Overflow",
    "Overwrite",
    "Record",
    "Sampling",
    "TableInput",
    "Talk",
]
