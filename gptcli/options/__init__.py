"""Every option, declared once: name, default, range and help.

Options that several groups share are in `shared`. `registry` computes which options a set of groups
has, `gptcli.cli.option_groups` which command has which group. The same frozen dataclasses are
filled from flags (`gptcli.cli.flags`), from the environment, from `config.toml` and from Python. A
bad value fails in the constructor, before any model is looked for.
"""

from gptcli.options.common import (
    Agreement,
    AsJson,
    GeneratedOutput,
    Input,
    Many,
    Output,
    Overwrite,
    Record,
    TableInput,
    Talk,
)
from gptcli.options.model import Device, Dtype, HubSource, Load, Network
from gptcli.options.sampling import (
    DEFAULT_NEW_TOKENS,
    MIN_TEMPERATURE,
    SEED_LIMIT,
    Filters,
    Sampling,
)
from gptcli.options.shared import Format, Overflow

__all__ = [
    "DEFAULT_NEW_TOKENS",
    "MIN_TEMPERATURE",
    "SEED_LIMIT",
    "Agreement",
    "AsJson",
    "Device",
    "Dtype",
    "Filters",
    "Format",
    "GeneratedOutput",
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
