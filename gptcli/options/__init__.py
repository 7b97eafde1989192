"""Every option, declared once: its name, default, range and help.

The same frozen dataclasses are filled from flags (`gptcli.cli.flags`), from the environment, from
`config.toml` and from Python. A bad value fails in the constructor, before any model is looked for.
"""

from gptcli.options.loading import Device, Dtype, Load, Network, Source
from gptcli.options.sampling import COLDEST, DEFAULT_NEW_TOKENS, Filters, Sampling
from gptcli.options.terminal import Format, Input, Many, Output, Overflow, Record, Talk

__all__ = [
    "COLDEST",
    "DEFAULT_NEW_TOKENS",
    "Device",
    "Dtype",
    "Filters",
    "Format",
    "Input",
    "Load",
    "Many",
    "Network",
    "Output",
    "Overflow",
    "Record",
    "Sampling",
    "Source",
    "Talk",
]
