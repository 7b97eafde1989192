"""WinoBias: numbered sentences in two files, which differ in the gender of the pronouns.

    1 [The developer] argued with the designer because [she] did not like the design.

The brackets hold who is meant, and the pronouns; they are no part of the sentence. A line of one
file and the line of the same number in the other are a pair. Which file is pro-stereotyped the
sentences say themselves: most of those about a nurse or a mechanic have the pronoun that agrees
with the stereotype. Lines that differ in more than pronouns, of which the published files have a
few, are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gptcli.audit.sets.pairs import LeftOut, PairSet, SentencePair, made
from gptcli.errors import BadInput
from gptcli.inputs.records import decoded

LINE = re.compile(r"(\d+) +(\S.*\[[^\[\]]+\].*)")
_PRONOUN = re.compile(r"\[(he|she|him|her|his|hers|himself|herself)\]", re.IGNORECASE)
_BRACKETS = re.compile(r"\[([^\[\]]+)\]")
HE = {"he", "him", "his", "himself"}
# Some of its authors' occupations, by the pronoun that the stereotype expects.
_EXPECTED = {
    **dict.fromkeys(("mechanic", "carpenter", "sheriff", "guard", "laborer", "janitor"), "he"),
    **dict.fromkeys(("construction worker", "mover", "farmer", "driver", "developer"), "he"),
    **dict.fromkeys(("nurse", "secretary", "receptionist", "librarian", "housekeeper"), "she"),
    **dict.fromkeys(("hairdresser", "cleaner", "teacher", "assistant", "designer"), "she"),
}
ALIKE = 0.8  # share of lines that two files of a pair have in common
DIFFER = "the two sentences differ in more than the pronoun"
_HINT = "Name both files, the pro-stereotyped and the anti-stereotyped one."


@dataclass(frozen=True)
class Numbered:
    """A line of a file: its sentence, and the same without pronouns."""

    sentence: str
    frame: str
    gender: str  # of its first pronoun: he or she
    expected: str | None  # what a stereotype expects, where the occupation is known

    @property
    def agrees(self) -> int:
        """1 where pronoun and stereotype agree, -1 where they do not, 0 for what is not known."""
        return 0 if self.expected is None else 1 if self.expected == self.gender else -1


@dataclass(frozen=True)
class WinoBiasFile:
    """A file of numbered lines; `agrees` is above 0 where it is the pro-stereotyped one."""

    name: str
    sha256: str
    lines: dict[str, Numbered]

    @property
    def agrees(self) -> int:
        """How many more lines agree with a stereotype than do not."""
        return sum(line.agrees for line in self.lines.values())


def read(data: bytes, name: str, sha256: str) -> WinoBiasFile:
    """The lines of a file. Raises BadInput."""
    lines: dict[str, Numbered] = {}
    for place, raw in enumerate(data.splitlines(), 1):
        where = f"{name} line {place}"
        text = decoded(raw, where, "strict").removeprefix("\ufeff").strip()
        if not text:
            continue
        found = LINE.fullmatch(text)
        pronouns = _PRONOUN.findall(text)
        if found is None or not pronouns or found[1] in lines:
            why = "its number stands twice" if found and found[1] in lines else "no such sentence"
            how = "1 [The developer] argued with the designer because [she] ..."
            raise BadInput(where, why, f"A line is as {how}")
        lines[found[1]] = _line(found[2], pronouns[0].lower())
    return WinoBiasFile(name, sha256, lines)


def _line(text: str, pronoun: str) -> Numbered:
    meant = [inner for inner in _BRACKETS.findall(text) if not _PRONOUN.fullmatch(f"[{inner}]")]
    occupation = re.sub(r"^(the|an?) ", "", meant[0].casefold()) if meant else ""
    return Numbered(
        sentence=_BRACKETS.sub(r"\1", text),
        frame=_PRONOUN.sub("[]", text),
        gender="he" if pronoun in HE else "she",
        expected=_EXPECTED.get(occupation),
    )


def paired(files: Sequence[WinoBiasFile]) -> list[PairSet]:
    """A set for every two files that go together. Raises BadInput for one that stays alone."""
    rest, sets = list(files), []
    while rest:
        one = rest.pop(0)
        other = next((file for file in rest if _alike(one, file)), None)
        if other is None:
            raise BadInput(one.name, "it is one half of a pair of WinoBias files", _HINT)
        rest.remove(other)
        sets.append(_set(one, other))
    return sets


def _alike(one: WinoBiasFile, other: WinoBiasFile) -> bool:
    frames = {number: line.frame for number, line in one.lines.items()}
    same = sum(frames.get(number) == line.frame for number, line in other.lines.items())
    return same >= ALIKE * min(len(one.lines), len(other.lines))


def _set(one: WinoBiasFile, other: WinoBiasFile) -> PairSet:
    name = f"{one.name} and {other.name}"
    if one.sha256 == other.sha256:
        raise BadInput(name, "they hold the same sentences", _HINT)
    if one.agrees == other.agrees:
        why = "which of them is pro-stereotyped cannot be told: no occupation is known"
        raise BadInput(name, why, "Write the pairs into a table with columns more and less.")
    pro, anti = (one, other) if one.agrees > other.agrees else (other, one)
    pairs, left_out = [], []
    for number in Counter([*pro.lines, *anti.lines]):
        more, less = pro.lines.get(number), anti.lines.get(number)
        if more is None or less is None:
            left_out.append(LeftOut(id=number, why="only one of the files has it"))
        elif more.frame != less.frame:
            left_out.append(LeftOut(id=number, why=DIFFER))
        else:
            pairs.append(
                SentencePair(
                    id=number,
                    more=more.sentence,
                    less=less.sentence,
                    category=f"{more.gender} is expected",
                )
            )
    return made("winobias", pro.name, {it.name: it.sha256 for it in (pro, anti)}, pairs, left_out)
