"""Options from keyword arguments: `generate("x", max_new_tokens=5)`.

A keyword is the name of a field, or another long name of its flag (`max_tokens`, `temp`). Python's
keywords have an underscore behind them, `from_`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from gptcli.errors import UsageError
from gptcli.options.spec import Options, key_of, longs_of

Kind = TypeVar("Kind", bound=Options)

# What other libraries call it, or do otherwise.
ELSEWHERE = {
    "n": "num_return_sequences",
    "num_samples": "num_return_sequences",
    "best_of": "num_return_sequences",
    "length": "max_new_tokens",
    "num_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "stop_strings": "stop",
    "stop_sequences": "stop",
    "bad_words_ids": "bad_words",
    "random_state": "seed",
    "random_seed": "seed",
    "beam_size": "num_beams",
    "beams": "num_beams",
    "do_sample": "greedy",
    "torch_dtype": "dtype",
    "device_map": "device",
    "local_files_only": "offline",
}


def merged(kind: type[Kind], options: Kind | None, given: Mapping[str, Any]) -> Kind:
    """The options, or those of a `kind` by default, with what keywords say of some.

    Raises UsageError for something else in place of options, an unknown keyword, and a bad value.
    """
    start = kind() if options is None else options
    if not isinstance(start, kind):
        name = kind.__name__
        why = f"{start!r:.60} is no {name}"
        raise UsageError(name.lower(), why, f"Give a {name}, or keyword arguments.")
    found = {field_of(name, [kind])[1]: value for name, value in given.items()}
    return cast(Kind, replace(cast(Any, start), **found)) if found else start


def shared_out(
    kinds: Sequence[type[Options]], given: Mapping[str, Any]
) -> dict[type[Options], dict[str, Any]]:
    """The keywords for each kind of options, by field. Raises UsageError for an unknown one."""
    found: dict[type[Options], dict[str, Any]] = {kind: {} for kind in kinds}
    for name, value in given.items():
        kind, field = field_of(name, kinds)
        found[kind][field] = value
    return found


def field_of(name: str, kinds: Sequence[type[Options]]) -> tuple[type[Options], str]:
    """Which of the kinds has the option, and its field. Raises UsageError."""
    known: dict[str, tuple[type[Options], str]] = {}
    for kind in kinds:
        for item in fields(kind):  # type: ignore[arg-type]
            names = [long.removeprefix("--").replace("-", "_") for long in longs_of(item)]
            for other in (item.name, key_of(item.name), *names):
                known.setdefault(other, (kind, item.name))
    if name in known:
        return known[name]
    raise unknown(name, [other for other in known if not other.startswith("no_")])


def unknown(name: str, known: Sequence[str]) -> UsageError:
    """The error for a keyword that is none, with the one that is meant."""
    from difflib import get_close_matches

    near = [ELSEWHERE[name]] if ELSEWHERE.get(name) in known else get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known))}."
    return UsageError(name[:60], "there is no such option", hint)
