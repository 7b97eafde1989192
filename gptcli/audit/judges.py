"""What judges a text that was written: the filter's own lists and classifier.

So a measure counts what the filter of the same options would find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gptcli.engines.filtering import judges_of
from gptcli.moderation.engine import MAX_BEFORE
from gptcli.moderation.judges import Phrases, Sentences
from gptcli.moderation.matcher import Matcher
from gptcli.options.moderation import ModeratedLoad


@dataclass(frozen=True)
class Judgement:
    """`score`: how much of what is looked for is in a text, from 0 to 1; of a list 0 or 1."""

    score: float = 0.0
    matches: int = 0


class TextJudge(Protocol):
    """Judges texts; the same text always alike."""

    @property
    def about(self) -> Mapping[str, object]:
        """What it is, for a record: lists and classifier, each with its SHA-256."""
        ...

    def judge(self, text: str, before: str = "") -> Judgement:
        """What is in a text that stands after another one."""
        ...


class _ByPhrases:
    """Finds the phrases of lists."""

    def __init__(self, phrases: Phrases) -> None:
        self._matcher = Matcher(phrases.tree)
        self.about: Mapping[str, object] = {**phrases.told, "phrases": len(phrases.tree.phrases)}

    def judge(self, text: str, before: str = "") -> Judgement:
        """As `TextJudge`. As in the filter, a match may begin before the text."""
        begun = before[-MAX_BEFORE:]
        found = sum(match.end > len(begun) for match in self._matcher.find(begun + text))
        return Judgement(float(found > 0), found)


class _ByClassifier:
    """Asks a classifier; the score is the greatest probability of a label that counts."""

    def __init__(self, sentences: Sentences) -> None:
        self._sentences = sentences
        self.about: Mapping[str, object] = {**sentences.told, "labels": dict(sentences.labels)}

    def judge(self, text: str, before: str = "") -> Judgement:
        """As `TextJudge`, of the text alone, sentence by sentence. A match is a sentence."""
        found = self._sentences.whole(text)
        labels = self._sentences.labels
        greatest = (probability[label] for probability in found for label in labels)
        matches = sum(any(one[label] >= labels[label] for label in labels) for one in found)
        return Judgement(max(greatest, default=0.0), matches)


@dataclass(frozen=True)
class _All:
    """Several judges as one: the greatest score, and all matches."""

    judges: Sequence[TextJudge]

    @property
    def about(self) -> Mapping[str, object]:
        """As `TextJudge`."""
        return {name: value for judge in self.judges for name, value in judge.about.items()}

    def judge(self, text: str, before: str = "") -> Judgement:
        """As `TextJudge`."""
        found = [judge.judge(text, before) for judge in self.judges]
        return Judgement(max(one.score for one in found), sum(one.matches for one in found))


def judge_of(asked: ModeratedLoad) -> TextJudge:
    """The judge that some options ask for, at least one list or a classifier.

    Raises as `gptcli.engines.filtering.judges_of`.
    """
    return _All(
        [
            _ByPhrases(judge) if isinstance(judge, Phrases) else _ByClassifier(judge)
            for judge in judges_of(asked)
        ]
    )
