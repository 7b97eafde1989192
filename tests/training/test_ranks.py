"""Several processes of torchrun train the model that one process trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.commands import environment
from support.training_runs import SHAPE, asked, ran

from gptcli.training.compute.batch import micro_batches
from gptcli.training.compute.ranks import Ranks

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] in ("stepdone", "evaluated")]


@pytest.mark.parametrize("more", [(), ("--shard",)], ids=["copies", "shards"])
def test_two_processes_train_what_one_trains(
    tmp_path: Path, story: Path, more: tuple[str, ...]
) -> None:
    ran(asked(story, tmp_path / "one", steps=6, eval_every=3))
    shape = [word for name, size in SHAPE.items() for word in (f"--{name}", str(size))]
    words = [
        *("-m", "gptcli", "train", str(story), "--scratch", "tiny", *shape, "--threads", "1"),
        *("--batch-tokens", "64", "--documents", "blank", "--valid-share", "0.2"),
        *("--steps", "6", "--eval-every", "3", "-o", str(tmp_path / "two"), *more),
        *("--precision", "float32"),
    ]
    done = subprocess.run([*TORCHRUN, *words], capture_output=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, atol=2e-4, err_msg=name)


def test_each_piece_is_computed_by_one_rank_and_all_have_the_same_number_of_rounds() -> None:
    from support.training import pieces

    table = pieces([7, 31, 3, 3, 12, 30, 1, 9, 22])
    chosen = np.arange(len(table))
    for count in (1, 2, 3, 12):
        shares = Ranks(0, count).share(table.lengths, chosen)
        assert sorted(int(piece) for share in shares for piece in share) == chosen.tolist()
        parts = [list(micro_batches(table, share, 16)) if len(share) else [] for share in shares]
        rounds = [list(Ranks(number, count).rounds(parts)) for number in range(count)]
        assert len({len(own) for own in rounds}) == 1
        counted = [piece for own in rounds for part, counts in own if counts for piece in part]
        assert sorted(map(int, counted)) == chosen.tolist()


def test_splitting_a_model_needs_several_processes(tmp_path: Path, story: Path) -> None:
    from gptcli.errors import UsageError

    with pytest.raises(UsageError, match="torchrun"):
        ran(asked(story, tmp_path / "run", shard=True))
