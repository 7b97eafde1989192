"""The suffix of a file's name decides its format, and none is written under another's name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine

from gptcli.errors import UsageError
from gptcli.options import Output
from gptcli.options.formats import format_of, holds, suffix_of

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (None, "text"),
        ("-", "text"),
        ("out", "text"),
        ("/dev/null", "text"),
        ("a.txt", "text"),
        ("a.md", "text"),
        ("a.JSON", "json"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.csv", "csv"),
        ("a.b.tsv", "tsv"),
        ("story-t0.7", "text"),
        ("Chapter 1. The wolf", "text"),
        (".csv", "text"),
        ("folder.csv/out", "text"),
    ],
)
def test_the_suffix_decides(name: str | None, shape: str) -> None:
    assert Output(output=name).shape == shape


@pytest.mark.parametrize("name", ["a.xlsx", "a.html", "a.parquet", "a.png", "a.gz", "a.docx"])
def test_another_suffix_is_refused_with_those_that_are_possible(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.txt.*\.csv or \.tsv, or choose by --format"):
        Output(output=name).shape  # noqa: B018


def test_flags_override_the_suffix() -> None:
    assert Output(output="a.xlsx", format="csv").shape == "csv"
    assert Output(output="a.csv", json=True).shape == "json"


def test_a_file_of_one_format_has_its_suffix_or_none() -> None:
    check = holds("svg", "--svg")
    check("chart.svg")
    check("chart")
    check("chart.v2")
    with pytest.raises(UsageError, match=r"--svg chart\.png: no \.png file .* in \.svg"):
        check("chart.png")


def test_suffixes_are_small_letters() -> None:
    assert (suffix_of("A.CSV"), suffix_of("x/.hidden"), suffix_of("a.")) == (".csv", "", "")
    assert format_of("a.PQ", ("jsonl", "parquet"), "jsonl") == "parquet"


READ: dict[str, Callable[[str], object]] = {
    ".json": lambda text: json.loads(text)["text"],
    ".jsonl": lambda text: json.loads(text)["text"],
    ".csv": lambda text: next(csv.DictReader(io.StringIO(text)))["text"],
    ".tsv": lambda text: next(csv.DictReader(io.StringIO(text), delimiter="\t"))["text"],
    ".txt": lambda text: text.removeprefix("Hi").removesuffix("\n"),
    ".md": lambda text: text.removeprefix("Hi").removesuffix("\n"),
}


@pytest.mark.parametrize("suffix", READ)
@pytest.mark.parametrize("command", [("generate",), ("run", "code")])
def test_each_suffix_holds_what_it_says(
    main_in: Cli, tmp_path: Path, suffix: str, command: tuple[str, ...]
) -> None:
    out = tmp_path / f"out{suffix}"
    assert main_in(*command, "Hi", "-o", str(out), engine=FakeEngine((" there\n",)))[0] == 0
    assert str(READ[suffix](out.read_text())).strip() == "there"


@pytest.mark.parametrize(
    "args",
    [
        ("generate", "Hi", "-o", "out.xlsx"),
        ("summarize", "Hi", "-o", "out.html"),
        ("score", "Hi", "-o", "out.png"),
        ("inspect", "Hi", "-o", "out.xlsx"),
        ("inspect", "Hi", "--html", "out.svg"),
        ("inspect", "Hi", "--npz", "out.png"),
        ("batch", "-", "-o", "out.txt"),
        ("bench", "--svg", "out.png"),
        ("generate", "Hi", "--record", "out.csv"),
        ("batch", "-", "--summary", "out.csv"),
    ],
)
def test_no_command_writes_under_a_name_that_says_another_format(
    main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = main_in(*args, engine=FakeEngine(), stdin=b"Hi\n")
    assert (code, out, list(tmp_path.iterdir())) == (2, "", [])
    assert "End the name in" in err


def test_a_suffix_that_is_typed_wins_over_a_format_from_the_file_or_a_variable(
    main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_FORMAT", "jsonl")
    out = tmp_path / "out.csv"
    assert main_in("generate", "Hi", "-o", str(out), engine=FakeEngine())[0] == 0
    assert out.read_text().startswith("id,index,")
    assert main_in("generate", "Hi", engine=FakeEngine())[1].startswith('{"id"')
    typed = ("-o", str(out), "--force", "--format", "text")
    assert main_in("generate", "Hi", *typed, engine=FakeEngine())[0] == 0
    assert out.read_text() == "Hi there was\n"
