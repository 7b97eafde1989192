"""Every reader of a file, with files that are nearly good: a result or an error of ours, soon.

`GPTCLI_FUZZ_EXAMPLES` is how many files each reader gets; without it they are few, and always the
same.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from support import fuzzed_models, fuzzed_readers
from support.commands import FAKE, run
from support.fake_engine import FakeEngine
from support.fuzzed_readers import Reader
from support.fuzzing import LONGEST_LINE, fuzz, judge

READERS = [*fuzzed_readers.READERS, *fuzzed_models.READERS]


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_a_reader_answers_or_says_what_is_wrong(
    reader: Reader, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")

    @fuzz
    @given(reader.cases)
    def read(case: Any) -> None:
        judge(partial(reader.read, folder, case))

    read()


NINES, HEX = "9" * 5000, f"0x{'f' * 6000}"
DEEP = "[" * 900 + "]" * 900
RUN = json.dumps(fuzzed_readers.RUN)
# File, its text, the command line ({} is the folder), the exit code, what stderr says.
WORST = [
    ("config.toml", f"seed = {NINES}", "generate Hi --config {}/config.toml", 65, "too long"),
    ("config.toml", f"seed = {HEX}", "config show --config {}/config.toml", 65, "too long"),
    ("config.toml", f"a = {DEEP}", "config show --config {}/config.toml", 65, "too deeply"),
    ("config.toml", "a." * 9000 + "a = 1", "generate Hi --config {}/config.toml", 65, "32 parts"),
    ("config.toml", "", f"config set seed {NINES} --config {{}}/config.toml", 2, "is not a whole"),
    ("config.toml", "", f"config set a{'.a' * 9000} 1 --config {{}}/config.toml", 2, "no name of"),
    ("gptcli/tasks/try.toml", f"prompt = {HEX}", "run try Hi", 65, "too long"),
    ("gptcli/tasks/try.toml", f"a = {DEEP}", "run try Hi", 65, "too deeply"),
    ("run.jsonl", f"{RUN[:-1]}, {DEEP}}}\n", "replay {}/run.jsonl", 65, "line 1"),
    ("run.jsonl", RUN.replace("1,", f"{NINES},", 1) + "\n", "replay {}/run.jsonl", 65, "digits"),
    ("a.jsonl", f'{{"prompt": "Hi", "x": {DEEP}}}', "batch {}/a.jsonl", 3, "1 of 1"),
    ("a.jsonl", f'{{"prompt": "Hi", "seed": {NINES}}}', "batch {}/a.jsonl", 3, "1 of 1"),
    ("a.csv", f"prompt,seed\nHi,{NINES}\n", "batch {}/a.csv", 3, "1 of 1"),
    ("talk.json", f'{{"version": {NINES}}}', "chat --load {}/talk.json", 65, "digits"),
    ("", "", f"generate Hi --seed {NINES}", 2, "seed"),
]


@pytest.mark.parametrize(
    ("name", "text", "line", "code", "told"),
    WORST,
    ids=[f"{case[2].split()[0]} {place}" for place, case in enumerate(WORST)],
)
def test_the_worst_files_end_a_command_with_one_line_and_its_code(
    name: str, text: str, line: str, code: int, told: str, tmp_path: Path
) -> None:
    if name:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    ended = run(FAKE, *line.format(tmp_path).split(), XDG_CONFIG_HOME=tmp_path)
    shown = ended.stderr.decode()
    assert ended.returncode == code, shown[:2000]
    assert told in shown
    assert "Traceback" not in shown
    assert "internal error" not in shown
    assert max(map(len, shown.splitlines())) < LONGEST_LINE


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("generate Hi --record {}", 73),
        ("chat --load {}.txt", 66),
        ("models alias add mine ~nobody-has-it/x", 2),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(line: str, code: int, main_in: Any) -> None:
    ended, _, shown = main_in(*line.format("x" * 300).split(), engine=FakeEngine())
    assert ended == code, shown
    assert shown.count("\n") == 1
