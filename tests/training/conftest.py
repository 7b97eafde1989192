"""The text that runs learn from; flushes that take no time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.training_runs import write_story


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 24 paragraphs."""
    return write_story(tmp_path_factory.mktemp("data") / "tale.txt")


@pytest.fixture
def quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a power cut would tell, and they take most of the time."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None, raising=False)
