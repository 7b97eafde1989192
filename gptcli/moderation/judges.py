"""What judges a text while it is written: phrase lists, and a classifier of sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gptcli.moderation.lists import PhraseList
from gptcli.moderation.phrases import PhraseTree
from gptcli.moderation.scanner import PhraseMatch, Scanner
from gptcli.system.text.sentences import borders

MAX_SENTENCE = 2000  # characters that are held back for a sentence


@dataclass(frozen=True)
class Hit:
    """A match in a text: `text[start:end]`; a negative start is in the prompt.

    `known`: how much of the text was read when it was found. `cause`: as JSON shows it.
    """

    start: int
    end: int
    known: int
    cause: Mapping[str, object]


class Judging(Protocol):
    """One text that is judged while it comes; places count its characters from 0."""

    @property
    def clear(self) -> int:
        """The place before which nothing more can be found."""
        ...

    def feed(self, text: str) -> list[Hit]:
        """Read on; gives what was found now."""
        ...

    def finish(self, goes_on: bool = False) -> list[Hit]:
        """The text ends here; gives what was found by that.

        If it `goes_on` elsewhere, what is not clear yet is left to that.
        """
        ...


class Judge(Protocol):
    """Begins to judge a text; `before` is what stands before it."""

    def begin(self, before: str) -> Judging:
        """A judging of one text."""
        ...

    @property
    def told(self) -> Mapping[str, object]:
        """What it is, as JSON shows it."""
        ...


class Phrases:
    """Judges by phrase lists."""

    def __init__(self, lists: Iterable[PhraseList]) -> None:
        self.lists = tuple(lists)
        self.tree = PhraseTree.of(one for found in self.lists for one in found.phrases)
        self.told = {"lists": {one.name: one.sha256 for one in self.lists}}

    def begin(self, before: str) -> Judging:
        """As `Judge`."""
        return _Scanned(Scanner(self.tree, before))


class _Scanned:
    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    @property
    def clear(self) -> int:
        return self._scanner.clear

    def feed(self, text: str) -> list[Hit]:
        return [_hit(one) for one in self._scanner.feed(text)]

    def finish(self, goes_on: bool = False) -> list[Hit]:
        return [] if goes_on else [_hit(one) for one in self._scanner.finish()]


def _hit(found: PhraseMatch) -> Hit:
    cause: dict[str, object] = {"list": found.phrase.list, "entry": found.phrase.entry}
    if found.phrase.language is not None:
        cause["language"] = found.phrase.language
    return Hit(found.start, found.end, found.known, cause)


class Classifier(Protocol):
    """A model that gives the probability of each label for texts of any length."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def revision(self) -> str:
        """A digest of its files."""
        ...

    def probabilities(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Of each text; of one longer than the model's context the largest of its windows."""
        ...


class Sentences:
    """Judges every sentence by a classifier; `labels` with their thresholds count."""

    def __init__(self, classifier: Classifier, labels: Mapping[str, float]) -> None:
        self.classifier, self.labels = classifier, labels
        self.told = {"moderator": {"model": classifier.name, "sha256": classifier.revision}}

    def begin(self, before: str) -> Judging:
        """As `Judge`; what stands before it is not judged."""
        return _Judged(self)

    def whole(self, text: str) -> list[dict[str, float]]:
        """What the classifier says of each sentence of a text that is there as a whole."""
        sentences = [text[start:end].strip() for start, end in _pieces(_ends(text))]
        return self.classifier.probabilities([one for one in sentences if one])

    def causes(self, texts: Sequence[str]) -> list[dict[str, object] | None]:
        """Of each sentence the label that counts most, or None."""
        return [self._cause(one) for one in self.classifier.probabilities(texts)]

    def _cause(self, found: Mapping[str, float]) -> dict[str, object] | None:
        over = [
            (found[label], label) for label, least in self.labels.items() if found[label] >= least
        ]
        if not over:
            return None
        probability, label = max(over)
        return {"label": label, "probability": round(probability, 4)}


class _Judged:
    def __init__(self, judge: Sentences) -> None:
        self._judge = judge
        self._rest = ""  # not judged yet
        self._known = 0
        self.clear = 0

    def feed(self, text: str) -> list[Hit]:
        self._rest += text
        self._known += len(text)
        ends = [one.start for one in borders(self._rest, finished=False) if one.certain]
        while len(self._rest) - (ends[-1] if ends else 0) > MAX_SENTENCE:
            ends.append((ends[-1] if ends else 0) + MAX_SENTENCE)
        return self._take(ends)

    def finish(self, goes_on: bool = False) -> list[Hit]:
        return self._take(_ends(self._rest))

    def _take(self, ends: list[int]) -> list[Hit]:
        """Judge the sentences that stop at these places of the rest."""
        pieces = _pieces(ends)
        texts = [self._rest[start:end].strip() for start, end in pieces]
        judged = [(piece, text) for piece, text in zip(pieces, texts, strict=True) if text]
        causes = self._judge.causes([text for _, text in judged]) if judged else []
        hits = [
            Hit(
                self.clear + start,
                self.clear + start + len(self._rest[start:end].rstrip()),
                self.clear + end,
                cause,
            )
            for ((start, end), _), cause in zip(judged, causes, strict=True)
            if cause is not None
        ]
        if ends:
            self._rest = self._rest[ends[-1] :]
            self.clear += ends[-1]
        return hits


def _ends(text: str) -> list[int]:
    """Where the sentences of a whole text stop."""
    return [*(one.start for one in borders(text)), len(text)]


def _pieces(ends: list[int]) -> list[tuple[int, int]]:
    return list(zip([0, *ends], ends, strict=False))
