"""What is known of a run at its end: all that its report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.durability.run_file import RunFile
from gptcli.training.events import Ended, Prepared

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run whose model lies in `folder`. base_folder: that of what was fine-tuned."""

    folder: Path
    log: Path
    plan: Prepared
    run: RunFile
    corpus: TrainingCorpus
    tokenizer: Tokenizer
    base_folder: Path | None
    done: Ended
