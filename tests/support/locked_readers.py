"""Readers of other programs' files, run in this process: what they say, and the model they make."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gptcli.checkpoints.config_json import CONFIG, gpt2_config
from gptcli.checkpoints.formats.locked import writing
from gptcli.checkpoints.formats.locked.source import Job, Source, check_complete

if TYPE_CHECKING:
    import torch


def read(reader: ModuleType, *files: Path, **options: object) -> Source:
    """What a reader finds in files, compared with what a GPT-2 has."""
    source: Source = reader.read(Job(folder=files[0].parent, files=files, options=options))
    if source.config is not None:
        check_complete(gpt2_config(source.config, {}, Path(CONFIG))[0], source.tensors)
    return source


def convert(source: Source, folder: Path) -> Path:
    """The model that is made of it, in a folder that is made, too."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.safetensors").open("wb") as file:
        writing.write(file, source.tensors)
    (folder / CONFIG).write_text(json.dumps(dict(source.config or {})), encoding="utf-8")
    for name, text in source.texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def scores(folder: Path, ids: list[int]) -> torch.Tensor:
    """What transformers computes with the model in float32, after each token."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return found
