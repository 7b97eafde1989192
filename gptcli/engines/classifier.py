"""A sequence classification model that judges sentences, through transformers, on the CPU.

It is loaded as other models are: checked first, from safetensors only, without code of its own. A
text longer than its context is judged in windows that overlap by half; of each label the largest
probability counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from gptcli.checkpoints.config_json import context_of
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.resolve import Checkpoint
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.engines.hf_loading import loaded
from gptcli.errors import BadModel, UsageError
from gptcli.moderation.checkpoint import checked, digest
from gptcli.options.moderation import ModeratedLoad

DEFAULT_CONTEXT = 512
SHIFTED = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"}  # two positions are no tokens'
TOKENIZER = "tokenizer.json"


class TextClassifier:
    """See `gptcli.moderation.judges.Classifier`."""

    def __init__(self, found: Checkpoint, manifest: CheckedCheckpoint) -> None:
        self.name, self.revision = found.name, digest(found)
        self._model: Any = loaded(
            found,
            torch.float32,
            AutoModelForSequenceClassification,
            "Choose a sequence classification model that transformers knows",
        ).eval()
        config = self._model.config
        self.labels = {int(place): str(label) for place, label in config.id2label.items()}
        single = config.num_labels == 1
        self._apart = single or config.problem_type == "multi_label_classification"
        context = context_of(manifest.config) or DEFAULT_CONTEXT
        self._encode = _Windows(found, context - 2 * (manifest.model_type in SHIFTED))

    def probabilities(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """As `gptcli.moderation.judges.Classifier`."""
        return [self._of(text) for text in texts]

    def _of(self, text: str) -> dict[str, float]:
        best = dict.fromkeys(self.labels.values(), 0.0)
        for ids in self._encode(text):
            for place, share in enumerate(self._shares(ids)):
                label = self.labels[place]
                best[label] = max(best[label], share)
        return best

    @torch.inference_mode()
    def _shares(self, ids: list[int]) -> list[float]:
        logits = self._model(input_ids=torch.tensor([ids])).logits[0].float()
        shares = logits.sigmoid() if self._apart else logits.softmax(-1)
        if not torch.isfinite(shares).all():
            hint = "Choose another model."
            raise BadModel(self.name, "the classifier's logits are not finite", hint)
        return [float(share) for share in shares]


class _Windows:
    """Cuts a text into windows of token ids, with the tokens that the model wants around each."""

    def __init__(self, found: Checkpoint, context: int) -> None:
        self._context = context
        self._tokenizer: Any = None
        if (found.folder / TOKENIZER).exists():
            from tokenizers import Tokenizer

            try:
                self._tokenizer = Tokenizer.from_file(str(found.folder / TOKENIZER))
            except Exception as error:  # the library raises plain Exceptions
                raise BadModel(found.name, f"{TOKENIZER}: {error}", "Get it again.") from None
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(context, stride=context // 4)
        else:
            self._own = load_tokenizer(found.folder)

    def __call__(self, text: str) -> Iterable[list[int]]:
        if self._tokenizer is not None:
            encoded = self._tokenizer.encode(text)
            return [one.ids for one in (encoded, *encoded.overflowing) if one.ids]
        ids, step = self._own.encode(text), max(self._context // 2, 1)
        last = max(len(ids) - self._context, 0)
        return [ids[at : at + self._context] for at in (*range(0, last, step), last) if ids]


def open_classifier(load: ModeratedLoad, labels: Iterable[str]) -> TextClassifier:
    """Load the classifier of `--moderator`.

    Raises as `gptcli.checkpoints.resolve.resolve`; BadModel; UsageError for a label it lacks.
    """
    found, manifest = checked(load)
    classifier = TextClassifier(found, manifest)
    known = list(classifier.labels.values())
    for label in labels:
        if label not in known:
            why = f"{found.name} has no label {label!r}"
            raise UsageError("--moderator-label", why, f"There are: {', '.join(known)}.")
    return classifier
