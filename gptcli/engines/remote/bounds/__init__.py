"""Bounds on what a server may send: nothing that it answers is waited for without end, or kept.

`limits` derives them from what is asked, `meter` counts one answer against them, `stream` sends a
request whose answer passes through a meter. Not here: which failure is tried again, and its
words on the terminal.
"""

from gptcli.engines.remote.bounds.limits import Limits, limits_of, limits_of_list
from gptcli.engines.remote.bounds.meter import AnswerStalled, BoundPassed, Meter
from gptcli.engines.remote.bounds.stream import ACCEPTED, bounded

__all__ = [
    "ACCEPTED",
    "AnswerStalled",
    "BoundPassed",
    "Limits",
    "Meter",
    "bounded",
    "limits_of",
    "limits_of_list",
]
