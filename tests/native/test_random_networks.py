"""Random GPT-2s and random steps: each row is what it is alone, and near the reference."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.random_networks import walk

from gptcli.engines.gpt2.on_cpu import network as network_module
from gptcli.native import Library

STEPS = 5  # of each data type


@pytest.fixture(autouse=True)
def _many_threads_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the small models of these tests."""
    monkeypatch.setattr(network_module, "OPS_PER_THREAD", 1)
    monkeypatch.setattr(network_module, "OPS_PER_CALL", 100_000)


@pytest.mark.parametrize("seed", range(6))
def test_rows_of_random_steps_are_what_they_are_alone(
    library: Library, tmp_path: Path, seed: int
) -> None:
    walk(library, tmp_path, seed, STEPS)


def test_random_models_may_run_at_the_same_time(library: Library, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: walk(library, tmp_path, seed, STEPS), range(100, 104)))
