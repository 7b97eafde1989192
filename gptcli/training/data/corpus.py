"""The data of a run as the network sees it: pieces to train on, pieces to validate on."""

from __future__ import annotations

from dataclasses import dataclass

from gptcli.training.data.pieces import PieceTable


@dataclass(frozen=True, kw_only=True)
class TrainingFile:
    """One file of the data, for the plan, the model card and the check that a run goes on with the
    same.
    """

    name: str
    bytes: int
    documents: int
    sha256: str  # of the file's bytes as they are on the disk


@dataclass(frozen=True, kw_only=True)
class TrainingCorpus:
    """Token ids on the disk, mapped. `valid` is None where nothing is kept for validation."""

    train: PieceTable
    valid: PieceTable | None
    sources: tuple[TrainingFile, ...]
    documents: int
    documents_by: str  # what a document is, in words, for the plan
    digest: str  # sha256 of ids, pieces and split
    notices: tuple[str, ...] = ()
    valid_sources: tuple[TrainingFile, ...] = ()  # of --valid
