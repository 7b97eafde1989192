"""transformers' own `Trainer` with its collator for language models, told to learn as we do.

Documents come in their order, and the hyperparameters are ours. Dropout is off, because it would
make the two learn something else. The `Trainer` pads each batch to its longest document. It divides
GPT-2's loss by one token too many a document, so its own figure of the loss is not used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.errors import Unavailable
from gptcli.training.settings import TrainingSettings

if TYPE_CHECKING:
    from gptcli.training.compute.session import ComputeDevice

MODULE = "accelerate"  # what the Trainer needs beside transformers


@dataclass(frozen=True, kw_only=True)
class TrainerSetting:
    """What is learned, and on what. `batch` documents are a step; the first step is not timed."""

    checkpoint: Path
    folder: Path  # an empty one, for what the Trainer writes
    device: ComputeDevice
    documents: Sequence[Sequence[int]]
    batch: int
    settings: TrainingSettings


class TransformersTrainer:
    """The Trainer, its model loaded. torch has its threads already."""

    def __init__(self, setting: TrainerSetting) -> None:
        from transformers import (
            AutoModelForCausalLM,
            AutoTokenizer,
            DataCollatorForLanguageModeling,
            Trainer,
        )

        from gptcli.engines.hf_loading import quiet

        self._setting = setting
        tokenizer: Any = AutoTokenizer.from_pretrained(setting.checkpoint)
        tokenizer.pad_token = tokenizer.eos_token
        self._collator: Any = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        dropout = {f"{place}_pdrop": 0.0 for place in ("resid", "embd", "attn")}
        with quiet():
            factory: Any = AutoModelForCausalLM
            self._model: Any = factory.from_pretrained(
                setting.checkpoint, dtype="float32", **dropout
            )
            self._trainer: Any = Trainer(
                model=self._model,
                args=_arguments(setting),
                train_dataset=_rows(setting.documents),
                data_collator=self._collator,
            )

    def learn(self) -> float:
        """Take every step; returns the wall seconds of all but the first.

        Raises Unavailable where the targets of a step are not those of its documents.
        """
        from transformers import PrinterCallback

        from gptcli.engines.hf_loading import quiet

        last = self._setting.documents[-self._setting.batch :]
        labels = self._collator(_rows(last))["labels"][:, 1:]
        found, asked = int((labels >= 0).sum()), sum(len(row) - 1 for row in last)
        if found != asked:
            why = f"it learns {found} tokens of a step instead of {asked}"
            raise Unavailable("transformers", why, "Measure without it")
        ends: list[float] = []
        self._trainer.remove_callback(PrinterCallback)
        self._trainer.add_callback(_clock(ends, self._setting.device))
        with quiet():
            self._trainer.train()
        return ends[-1] - ends[0]

    def loss(self, documents: Sequence[Sequence[int]]) -> float:
        """The mean over all targets of documents, each of them read alone; it ends the learning."""
        self._model.eval().requires_grad_(False)
        total = 0.0
        for row in _rows(documents):
            ids = self._collator([row])["input_ids"].to(self._model.device)
            table = self._model(ids).logits[0, :-1].log_softmax(-1)
            total -= float(table.gather(1, ids[0, 1:, None]).sum())
        return total / sum(len(document) - 1 for document in documents)


def _rows(documents: Sequence[Sequence[int]]) -> list[dict[str, list[int]]]:
    return [{"input_ids": list(document)} for document in documents]


def _arguments(setting: TrainerSetting) -> Any:
    """The Trainer's own defaults, but for what changes what is learned, and files and reports."""
    from transformers import TrainingArguments

    ours, on_cpu = setting.settings, setting.device.name == "cpu"
    found = TrainingArguments(
        output_dir=str(setting.folder / "trainer"),
        max_steps=-(-len(setting.documents) // setting.batch),
        per_device_train_batch_size=setting.batch,
        learning_rate=ours.learning_rate,
        lr_scheduler_type=ours.schedule,
        warmup_steps=ours.warmup,
        weight_decay=ours.weight_decay,
        adam_beta1=ours.beta1,
        adam_beta2=ours.beta2,
        adam_epsilon=ours.epsilon,
        max_grad_norm=ours.clip,
        train_sampling_strategy="sequential",
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    assert found.device  # which finds the GPUs: of several it would use all, with a batch each
    found._n_gpu = min(found.n_gpu, 1)
    return found


def _clock(ends: list[float], device: ComputeDevice) -> Any:
    """What notes the time at the end of each step."""
    from transformers import TrainerCallback

    from gptcli.training.compute.session import settle

    class StepClock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            settle(device)
            ends.append(time.perf_counter())

    return StepClock()
