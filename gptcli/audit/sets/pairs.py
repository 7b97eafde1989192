"""What a set of pairs is, whatever its file looks like.

Of each pair the `more` sentence is the one that agrees with a stereotype, or that the set names
first; the measure is how often the model finds it the likelier one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gptcli.errors import BadInput
from gptcli.system.units import counted

Kind = Literal["built-in", "crows-pairs", "stereoset", "winobias", "winogender", "pairs"]
MAX_NAMED = 3  # pairs in a notice


@dataclass(frozen=True, kw_only=True)
class AboutSet:
    """What is told of a kind of set: its name, what the share counts, and what it cannot show."""

    title: str
    share: str
    limits: str


ABOUT: Mapping[Kind, AboutSet] = {
    "built-in": AboutSet(
        title="our own pairs",
        share="the sentence that agrees with a stereotype is the likelier one",
        limits="a few templates of English by the authors of gptcli: a first look, no proof",
    ),
    "crows-pairs": AboutSet(
        title="CrowS-Pairs (Nangia et al. 2020)",
        share="sent_more is the likelier one",
        limits="many of its pairs are unclear or wrong (Blodgett et al. 2021), and it was made for"
        " masked models",
    ),
    "stereoset": AboutSet(
        title="StereoSet (Nadeem et al. 2021)",
        share="the stereotype is likelier than the anti-stereotype",
        limits="many of its pairs are unclear or wrong (Blodgett et al. 2021)",
    ),
    "winobias": AboutSet(
        title="WinoBias (Zhao et al. 2018)",
        share="the pro-stereotyped sentence is the likelier one",
        limits="it was made for coreference; pronouns are he and she alone",
    ),
    "winogender": AboutSet(
        title="Winogender schemas (Rudinger et al. 2018)",
        share="he is likelier than she",
        limits="a positive result shows bias, a negative one does not show its absence, say its"
        " authors; the share also has how common he is in the data",
    ),
    "pairs": AboutSet(
        title="your own pairs",
        share="more is likelier than less",
        limits="what it means is for you to say",
    ),
}


@dataclass(frozen=True, kw_only=True)
class SentencePair:
    """Two sentences that are compared.

    `groups` are further parts of the set that are counted, by the name of the division. StereoSet
    adds the `target` term and a sentence that is `unrelated` to its context.
    """

    id: str
    more: str
    less: str
    category: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    unrelated: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A pair that cannot be compared, and why."""

    id: str
    why: str


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """A set as it was read; `sha256` is that of its file, or of each of its files."""

    kind: Kind
    name: str
    sha256: Mapping[str, str]
    pairs: tuple[SentencePair, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def about(self) -> AboutSet:
        """What is told of its kind."""
        return ABOUT[self.kind]

    @property
    def notices(self) -> tuple[str, ...]:
        """Which pairs were left out, reason by reason."""
        reasons: dict[str, list[str]] = {}
        for one in self.left_out:
            reasons.setdefault(one.why, []).append(one.id)
        return tuple(
            f"{self.name}: {counted(len(ids), 'pair')} left out: {why} ({_named(ids)})"
            for why, ids in reasons.items()
        )

    def to_dict(self) -> dict[str, object]:
        """As a record holds it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "sha256": dict(self.sha256),
            "pairs": len(self.pairs),
            "left_out": [{"id": one.id, "why": one.why} for one in self.left_out],
            "share_of_pairs_where": self.about.share,
            "limits": self.about.limits,
        }


EQUAL = "its sentences are equal"


def made(
    kind: Kind,
    name: str,
    sha256: Mapping[str, str],
    pairs: Iterable[SentencePair],
    left_out: Sequence[LeftOut] = (),
) -> PairSet:
    """A set without the pairs whose sentences are equal. Raises BadInput where none is left."""
    kept: list[SentencePair] = []
    out = list(left_out)
    for pair in pairs:
        if pair.more == pair.less:
            out.append(LeftOut(id=pair.id, why=EQUAL))
        elif not pair.more.strip() or not pair.less.strip():
            out.append(LeftOut(id=pair.id, why="a sentence is empty"))
        else:
            kept.append(pair)
    if not kept:
        why = f"no pair is left: {out[0].why} ({out[0].id})" if out else "there are no pairs in it"
        raise BadInput(name, why, "See gptcli docs audit for what a set looks like.")
    return PairSet(kind=kind, name=name, sha256=sha256, pairs=tuple(kept), left_out=tuple(out))


def digest(data: bytes) -> str:
    """The SHA-256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return ", ".join(ids[:MAX_NAMED]) + more
