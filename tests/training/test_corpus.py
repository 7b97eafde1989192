"""The corpus on the disk: whole or not at all, found again, and refused where something changed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.training_data import lay, prepared, sentences

from gptcli.errors import BadInput, CannotCreate, UsageError
from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.data.options import TrainingData
from gptcli.training.data.preparing import check_sources

PROGRAM = """
import sys
from pathlib import Path
from support.training_data import tales_tokenizer
from gptcli.training.data.preparing import prepare
from gptcli.training.data.options import TrainingData
tokenizer = tales_tokenizer()
print("go", flush=True)
prepare(sys.argv[1:], TrainingData(documents="line"), tokenizer, 16, 0, Path("run"))
"""


@pytest.fixture
def made(tmp_path: Path) -> TrainingCorpus:
    """A corpus of two files."""
    lay(tmp_path, {"a.txt": " ".join(sentences(30)), "b.txt": " ".join(sentences(30, seed=1))})
    return prepared(tmp_path, {}, "a.txt", "b.txt")


def test_the_same_data_gives_the_same_corpus_and_it_is_made_once(
    made: TrainingCorpus, tmp_path: Path
) -> None:
    data = tmp_path / "run" / "data"
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    again = prepared(tmp_path, {}, "a.txt", "b.txt")
    assert {path.name: path.stat().st_mtime_ns for path in data.iterdir()} == before
    assert again.digest == made.digest
    assert again.sources == made.sources
    assert again.train.ids.tolist() == made.train.ids.tolist()
    assert (again.train.tokens, again.train.targets) == (made.train.tokens, made.train.targets)
    elsewhere = prepared(tmp_path, {}, "a.txt", "b.txt", out="other")
    assert elsewhere.digest == made.digest


def test_tokens_and_targets_are_those_of_the_table(made: TrainingCorpus) -> None:
    for table in (made.train, made.valid):
        assert table is not None
        assert table.tokens == table.lengths.sum()
        assert table.ids.dtype.itemsize == 2
        assert not table.ids.flags.writeable


def test_a_changed_file_is_refused_by_name(made: TrainingCorpus, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    check_sources(made, names, TrainingData())
    os.utime(names[1])  # the contents are the same
    check_sources(made, names, TrainingData())
    moved = tmp_path / "c.txt"
    Path(names[1]).rename(moved)
    check_sources(made, [names[0], str(moved)], TrainingData())
    text = moved.read_bytes()
    moved.write_bytes(text.replace(b"king", b"lion"))
    moved.rename(names[1])
    with pytest.raises(
        BadInput, match=r"data changed: .*b\.txt: it has other contents since"
    ) as no:
        prepared(tmp_path, {}, "a.txt", "b.txt")
    assert "another -o" in no.value.hint
    with pytest.raises(BadInput, match=r"data changed: .*b\.txt: it is gone"):
        prepared(tmp_path, {}, "a.txt")
    Path(names[1]).write_bytes(text)
    with pytest.raises(BadInput, match=r"data changed: .*n\.txt: it is new"):
        prepared(tmp_path, {"n.txt": "new"}, "a.txt", "b.txt", "n.txt")


def test_a_run_with_other_settings_is_refused_by_their_name(
    made: TrainingCorpus, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--documents: it was auto .* is line now"):
        prepared(tmp_path, {}, "a.txt", "b.txt", documents="line")
    with pytest.raises(UsageError, match=r"--context: it was 16 .* is 32 now"):
        prepared(tmp_path, {}, "a.txt", "b.txt", context=32)
    with pytest.raises(UsageError, match="--seed"):
        prepared(tmp_path, {}, "a.txt", "b.txt", seed=1)


@pytest.mark.parametrize("name", ["ids.bin", "train.starts.bin", "valid.lengths.bin", "data.json"])
def test_a_damaged_corpus_is_not_used(made: TrainingCorpus, tmp_path: Path, name: str) -> None:
    path = tmp_path / "run" / "data" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(BadInput, match="damaged") as refused:
        prepared(tmp_path, {}, "a.txt", "b.txt")
    assert "made anew" in refused.value.hint


def test_a_folder_named_data_that_no_run_made_is_left_alone(tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": "one two", "data/mine.txt": "mine"})
    with pytest.raises(CannotCreate, match="holds no data of a run"):
        prepared(tmp_path, {}, "a.txt", out=".")
    assert (tmp_path / "data" / "mine.txt").exists()


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    lay(tmp_path, {"a.txt": " ".join(sentences(16_000)), "b.txt": "more"})
    changed: list[int] = []

    def change(done: int, total: int) -> None:
        if not changed:
            changed.append(done)
            with (tmp_path / "a.txt").open("r+b") as file:
                file.write(b"Once")

    from support.training_data import tales_tokenizer

    from gptcli.training.data.preparing import prepare

    names = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    with pytest.raises(BadInput, match=r"data changed: .*a\.txt: it changed while it was read"):
        prepare(names, TrainingData(), tales_tokenizer(), 16, 0, tmp_path / "run", change)
    assert not list((tmp_path / "run").iterdir())


def test_progress_counts_the_bytes_of_all_files(tmp_path: Path) -> None:
    from support.training_data import tales_tokenizer

    from gptcli.training.data.preparing import prepare

    lay(tmp_path, {"a.txt": "one two", "b.txt": "three"})
    heard: list[tuple[int, int]] = []
    names = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    prepare(
        names,
        TrainingData(),
        tales_tokenizer(),
        16,
        0,
        tmp_path / "run",
        lambda done, total: heard.append((done, total)),
    )
    assert heard == [(7, 12), (12, 12)]


def test_a_run_killed_anywhere_leaves_a_whole_corpus_or_none(tmp_path: Path) -> None:
    rows = "\n".join(sentences(8_000))
    whole = prepared(tmp_path, {"a.txt": rows}, documents="line", out="whole").digest
    chance = random.Random(int(os.environ.get("GPTCLI_KILL_SEED", "0")))
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    for number in range(int(os.environ.get("GPTCLI_KILL_ROUNDS", "1"))):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "a.txt"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(chance.random() * 0.6)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if (tmp_path / "run" / "data").exists():
            assert (tmp_path / "run" / "data" / "data.json").exists()
        found = prepared(tmp_path, {}, "a.txt", documents="line")
        assert found.digest == whole
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["data"]
        (tmp_path / "run" / "data").rename(tmp_path / f"old{number}")
