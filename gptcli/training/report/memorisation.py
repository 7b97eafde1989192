"""What a model only learned by heart: passages that it shares with its training text.

Three kinds of texts are looked for among the training ids: samples from the end token, greedy
continuations of the beginnings of documents that were trained on, and of documents that were kept
for validation. What the latter documents themselves share with the training text says how much is
usual in texts of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING

from gptcli.options import Sampling
from gptcli.training.report.curves import LossCurves
from gptcli.training.report.finished import FinishedRun
from gptcli.training.report.overlap import RUN, Overlaps, overlaps
from gptcli.training.report.writer import SampleWriter

if TYPE_CHECKING:
    from gptcli.training.data.pieces import PieceTable

TEXTS = 8  # of each kind
BEGINNING, CONTINUATION = 32, 64  # tokens
SAMPLE = 100  # tokens
WRITING_SECONDS, SEARCH_SECONDS = 60.0, 60.0
BY_HEART = 32  # tokens in a row that nobody writes by chance
TIMES = 2  # as long as in unseen text
SMALL_GAP, LARGE_GAP = 0.2, 0.7  # nats
LAST_STEPS = 50  # whose mean is the training loss
BEGUN = "training beginning", "validation beginning"
Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SharedPassage:
    """A text, and the longest passage that it shares with the training text."""

    kind: str  # sample, training beginning, validation beginning, validation text
    text: str
    tokens: int  # of the text
    shared: int  # tokens of the passage; 0: less than `RUN`
    passage: str
    verbatim: int | None = None  # tokens at the beginning that are those of its own document


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """The report. Losses are nats; `looked_at` is the share of the training text, 0 to 1."""

    train_loss: float | None
    valid_loss: float | None
    gap: float | None
    looked_at: float
    texts: tuple[SharedPassage, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """As memorisation.json has it."""
        return asdict(self)

    def longest(self, kind: str) -> int | None:
        """The longest passage of the texts of a kind; None where there are none."""
        return max((text.shared for text in self.texts if text.kind == kind), default=None)


def memorisation(run: FinishedRun, curves: LossCurves, writer: SampleWriter) -> Memorisation:
    """Let the model write, and compare. Raises OSError."""
    kinds, texts, own = _texts(run, writer)
    deadline = monotonic() + SEARCH_SECONDS
    found = overlaps(texts, run.corpus.train, lambda: monotonic() > deadline)
    passages = tuple(_passages(run, kinds, texts, own, found))
    valid = run.done.best_loss
    train = curves.train_near(run.done.chosen or run.done.step, LAST_STEPS)
    report = Memorisation(
        train_loss=train,
        valid_loss=valid,
        gap=None if train is None or valid is None else valid - train,
        looked_at=found.share,
        texts=passages,
        sentences=(),
    )
    return Memorisation(**{**vars(report), "sentences": (*_sentences(report),)})


def _texts(run: FinishedRun, writer: SampleWriter) -> tuple[list[str], list[Ids], list[Ids]]:
    """Kinds, token ids, and what each one's own document goes on with."""
    seed = run.run.settings.seed
    kinds: list[str] = []
    texts: list[Ids] = []
    own: list[Ids] = []
    sampling = Sampling(max_new_tokens=SAMPLE, seed=seed)
    written = writer.continued(run.folder, [""] * TEXTS, sampling, WRITING_SECONDS / 2)
    kinds += ["sample"] * len(written)
    texts += written.values()
    own += [()] * len(written)
    of_train, valid = _beginnings(run.corpus.train), run.corpus.valid
    of_valid = _beginnings(valid) if valid is not None else []
    begun: list[tuple[str, Ids]] = []
    for pair in zip_longest(of_train, of_valid):  # of both kinds, where the time ends
        begun += [(kind, ids) for kind, ids in zip(BEGUN, pair, strict=True) if ids]
    if not written or not begun:
        return kinds, texts, own
    greedy = Sampling(max_new_tokens=CONTINUATION, temperature=0)
    prompts = [ids[:BEGINNING] for _, ids in begun]
    continued = writer.continued(run.folder, prompts, greedy, WRITING_SECONDS / 2)
    for number, ids in continued.items():
        kinds.append(begun[number][0])
        texts.append(ids)
        own.append(begun[number][1][BEGINNING:])
    kinds += ["validation text"] * len(of_valid)
    texts += of_valid
    return kinds, texts, own + [()] * len(of_valid)


def _beginnings(table: PieceTable) -> list[Ids]:
    """The beginnings of some pieces that are long enough, spread over all."""
    import numpy as np

    least = BEGINNING + CONTINUATION
    some = np.linspace(0, len(table) - 1, min(len(table), 4096)).astype(np.int64)
    fitting = some[table.lengths[some] >= least + 1]
    if not len(fitting):
        return []
    chosen = fitting[np.linspace(0, len(fitting) - 1, min(TEXTS, len(fitting))).astype(np.int64)]
    starts = (int(table.starts[place]) + 1 for place in chosen)  # behind the end token
    return [tuple(map(int, table.ids[start : start + least])) for start in starts]


def _passages(
    run: FinishedRun,
    kinds: Sequence[str],
    texts: Sequence[Ids],
    own: Sequence[Ids],
    found: Overlaps,
) -> list[SharedPassage]:
    passages = []
    for kind, ids, rest, overlap in zip(kinds, texts, own, found.found, strict=True):
        shared = ids[overlap.start : overlap.start + overlap.tokens]
        same = _agreeing(ids, rest)
        passages.append(
            SharedPassage(
                kind=kind,
                text=run.tokenizer.decode(list(ids)),
                tokens=len(ids),
                shared=overlap.tokens,
                passage=run.tokenizer.decode(list(shared)),
                verbatim=same if rest else None,
            )
        )
    return passages


def _agreeing(ids: Ids, rest: Ids) -> int:
    """How many are the same from the first on."""
    pairs = enumerate(zip(ids, rest, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(ids), len(rest)))


def _sentences(report: Memorisation) -> list[str]:
    """The report in words."""
    sample, usual = report.longest("sample"), report.longest("validation text")
    found = [_of_gap(report.gap)] if report.gap is not None else []
    if sample is None:
        return [*found, "What the model repeats was not looked for: it could not write."]
    if report.looked_at < 1:
        found.append(f"Looked at: {report.looked_at:.0%} of the training text.")
    found.append(
        f"The longest passage that a sample shares with the training text: {_long(sample)}."
    )
    if usual is not None:
        found.append(f"Unseen text of the same kind shares: {_long(usual)}.")
    begun = [text for text in report.texts if text.kind == "training beginning"]
    heart = sum((text.verbatim or 0) >= BY_HEART for text in begun)
    if begun:
        found.append(
            f"Of {len(begun)} beginnings of training documents the model goes on with"
            f" {heart} word for word for {BY_HEART} tokens or more."
        )
    found.append(_verdict(sample, usual or 0, heart))
    return found


def _long(tokens: int) -> str:
    return f"{tokens} tokens" if tokens else f"less than {RUN} tokens"


def _verdict(sample: int, usual: int, heart: int) -> str:
    if heart or (sample >= BY_HEART and sample > TIMES * usual):
        return (
            "The model writes passages of its training text by heart: do not publish it where that"
            " text must not be, and train less, or on more text."
        )
    return "No sign that it repeats its training text at length; that is no proof."


def _of_gap(gap: float) -> str:
    """What the distance of both losses means."""
    if gap < SMALL_GAP:
        how = "unseen text is as easy for the model as what it trained on"
    elif gap < LARGE_GAP:
        how = "it fits what it trained on better than unseen text, as is usual after some epochs"
    else:
        how = "it knows what it trained on far better than unseen text: it begins to memorise"
    return f"Validation loss minus training loss: {gap:.2f} nats; {how}."
