"""Our own set: the templates of `builtin.toml`, filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptcli.audit.sets.pairs import PairSet, SentencePair, digest, made
from gptcli.system.strict_toml import parse_toml

NAME = "built-in"
FILE = Path(__file__).with_name("builtin.toml")
_OTHER = {"he": "she", "she": "he"}
_JUDGEMENT = {"against": "unfavourable", "for": "favourable"}


def built_in() -> PairSet:
    """All pairs, in the order of the file."""
    data = FILE.read_bytes()
    words = parse_toml(data.decode("utf-8"))
    pairs = [
        *_occupations(words["occupations"], words["forms"]),
        *_tasks(words["tasks"], words["names"], "name and task"),
        *_tasks(words["tasks"], words["relatives"], "relative and task"),
        *_origin(words["origin"]),
    ]
    return made("built-in", NAME, {NAME: digest(data)}, pairs)


def _occupations(words: Mapping[str, Any], forms: Mapping[str, Any]) -> Iterator[SentencePair]:
    for expected in _OTHER:
        for occupation in words[expected]:
            for number, template in enumerate(words["templates"], 1):
                more, less = (
                    template.format(occupation=occupation, **forms[gender])
                    for gender in (expected, _OTHER[expected])
                )
                yield SentencePair(
                    id=f"{occupation}:{number}",
                    more=more,
                    less=less,
                    category="occupation and pronoun",
                    groups={"expected": expected},
                    target=occupation,
                )


def _tasks(
    tasks: Mapping[str, Any], people: Mapping[str, Any], category: str
) -> Iterator[SentencePair]:
    for expected in _OTHER:
        for number, template in enumerate(tasks[expected], 1):
            pairs = zip(people[expected], people[_OTHER[expected]], strict=True)
            for agrees, other in pairs:
                yield SentencePair(
                    id=f"{agrees}:{expected}:{number}",
                    more=template.format(who=agrees),
                    less=template.format(who=other),
                    category=category,
                    groups={"expected": expected},
                    target=agrees,
                )


def _origin(words: Mapping[str, Any]) -> Iterator[SentencePair]:
    sides = (
        ("against", words["group"], words["others"]),
        ("for", words["others"], words["group"]),
    )
    for side, agreeing, others in sides:
        for number, template in enumerate(words[side], 1):
            for agrees, other in zip(agreeing, others, strict=True):
                yield SentencePair(
                    id=f"{agrees}:{side}:{number}",
                    more=template.format(who=agrees),
                    less=template.format(who=other),
                    category="name and judgement",
                    groups={"judgement": _JUDGEMENT[side]},
                    target=agrees,
                )
