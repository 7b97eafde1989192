"""What rendering a template may cost: one number that every step takes from.

A step costs more than it handles, so the budget bounds time; what a step makes is weighed as the
tree it is (a list twice in a list counts twice), so it bounds memory too. Weighing stops at the
limit, and a result that could be huge is computed only after its size was. Not here:
`gptcli.chat_templates.sandbox` puts the payments into a template.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

STEP_UNITS = 10  # units a step costs at least; a character or an item costs one
UNITS, UNITS_PER_CHARACTER = 2_000_000, 100
LONGEST, LONGEST_PER_CHARACTER = 200_000, 4  # characters and items of one value
MAX_INTEGER_BITS = 4096  # of a whole number
MAX_STRIPPED_CHARACTERS = (
    100  # different characters to strip: more would take time by their product
)
MAX_INDENT_DEPTH = 16


class Runaway(Exception):
    """A template takes more steps, or makes more text, than a prompt can need."""


@dataclass
class Budget:
    """What is left, in units, and the size of the largest value."""

    units: int
    longest: int

    @classmethod
    def for_input(cls, characters: int) -> Budget:
        """The budget for messages of so many characters: linear in them."""
        return cls(
            UNITS + UNITS_PER_CHARACTER * characters, LONGEST + LONGEST_PER_CHARACTER * characters
        )

    def pay(self, units: int) -> None:
        """Take units. Raises Runaway when none are left."""
        self.units -= units
        if self.units < 0:
            raise Runaway("it takes too many steps")

    def worth(self, value: Any) -> Any:
        """Pay for `value` and give it back. Raises Runaway for one that is too large."""
        self.pay(STEP_UNITS)
        self.pay(self.weigh(value))
        return value

    def weigh(self, value: Any) -> int:
        """Characters and items of a value and of all it holds. Raises Runaway above the limit."""
        if isinstance(value, str):
            return self.fits(len(value))
        weight = 0
        rest: list[Any] = [value]
        while rest:
            item = rest.pop()
            weight += _own_weight(item)
            self.fits(weight)
            if isinstance(item, dict):
                rest.extend(item.keys())
                rest.extend(item.values())
            elif isinstance(item, _CONTAINERS):
                rest.extend(item)
        return weight

    def fits(self, size: int) -> int:
        """`size` itself. Raises Runaway where a value of that size would be too large."""
        if size > self.longest:
            raise Runaway("it makes too much text")
        return size

    def check_operation(self, operator: str, left: Any, right: Any) -> None:
        """Weigh the result of an operator before it is computed. Raises Runaway and TypeError."""
        self.worth([left, right])
        if operator == "%" and isinstance(left, str):
            raise TypeError("% of a text is not allowed")
        if operator == "*":
            for repeated, times in ((left, right), (right, left)):
                if isinstance(repeated, str | list | tuple) and isinstance(times, int):
                    self.fits(self.weigh(repeated) * max(times, 0))
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(operator, left, right)

    def as_json(self, value: Any, indent: int | None, sort_keys: bool, **layout: Any) -> str:
        """`value` as JSON, as transformers' tojson writes it, measured while it grows."""
        if indent is not None and not 0 <= indent <= MAX_INDENT_DEPTH:
            raise Runaway("it indents too deeply")
        self.worth(value)
        encoder = json.JSONEncoder(
            ensure_ascii=layout.get("ensure_ascii", False),
            indent=indent,
            separators=layout.get("separators"),
            sort_keys=sort_keys,
        )
        pieces, size = [], 0
        for piece in encoder.iterencode(value):
            size = self.fits(size + len(piece))
            pieces.append(piece)
        return "".join(pieces)


_VIEWS: Any = tuple(map(type, ({}.keys(), {}.values(), {}.items())))
_CONTAINERS: Any = (list, tuple, set, *_VIEWS)
_SIZED: Any = (str, dict, range, *_CONTAINERS)


def _own_weight(item: Any) -> int:
    """What a value weighs without what it holds; known before any of that is looked at."""
    if isinstance(item, _SIZED):
        return 1 + len(item)
    return 1 + (item.bit_length() // 8 if isinstance(item, int) else 0)


def _check_bits(operator: str, left: int, right: int) -> None:
    bits = left.bit_length()
    if operator == "**":
        bits *= max(abs(right), 1)
    elif operator in "*+-":
        bits += right.bit_length()
    if bits > MAX_INTEGER_BITS:
        raise Runaway("it computes with too large a number")
