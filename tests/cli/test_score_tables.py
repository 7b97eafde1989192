"""`gptcli score` on tables: which column is scored, what is carried, what a broken row costs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.protocol import Window

Ask = Callable[..., tuple[int, str, str]]
ITEMS = "item\tcondition\tsentence\ni1\tgood\tThe king was sad.\ni2\tbad\tThe king were sad.\n"


@pytest.fixture(scope="session")
def engine(tiny: Path) -> FakeEngine:
    """Every token's log-probability is minus the remainder of its id by 5, less one."""

    def expecting(window: Window, place: int) -> float:
        return -1.0 - window.ids[place] % 5

    return FakeEngine(tokenizer=load_tokenizer(tiny), expecting=expecting)


@pytest.fixture
def ask(main_in, engine: FakeEngine) -> Ask:
    """A function that scores by the fake engine; gives code, stdout, stderr."""

    def ask(*args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        return main_in("score", *args, stdin=stdin, engine=engine)

    return ask


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str], str]:
    """A function that writes a file and gives its name."""

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def rows_of(out: str, separator: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out), delimiter=separator))


@pytest.mark.parametrize("args", [(), ("--words",), ("--compare", " other"), ("--lines",)])
def test_a_text_that_names_a_file_is_an_error_that_says_how(
    ask: Ask, file, args: tuple[str, ...]
) -> None:
    name = file("items.tsv", ITEMS)
    code, out, err = ask(name, *args)
    assert (code, out) == (2, "")
    assert f"-f {name}" in err


@pytest.mark.parametrize("lines", [(), ("--lines",)])
def test_the_rows_of_a_table_are_texts(ask: Ask, file, lines: tuple[str, ...]) -> None:
    code, out, err = ask(*lines, "-f", file("items.tsv", ITEMS), "--format", "csv")
    rows = rows_of(out)
    assert code == 0
    assert [row["text"] for row in rows] == ["The king was sad.", "The king were sad."]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert [(row["item"], row["condition"]) for row in rows] == [("i1", "good"), ("i2", "bad")]
    assert "2 texts together" in err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "item;condition;sentence\ni1;good;A b.\n"),
        ("a.csv", 'sep=|\nitem|condition|sentence\ni1|good|"A b."\n'),
        ("a.tsv", "item\tcondition\tsentence\r\ni1\tgood\tA b.\r\n"),
        ("a.jsonl", '{"item": "i1", "condition": "good", "sentence": "A b."}\n'),
    ],
)
def test_a_table_is_read_however_it_is_written(ask: Ask, file, name: str, text: str) -> None:
    code, out, _ = ask("-f", file(name, text), "--id-column", "item", "--format", "jsonl")
    row = json.loads(out)
    assert code == 0
    assert (row["id"], row["item"], row["condition"], row["text"]) == ("i1", "i1", "good", "A b.")


def test_a_column_makes_a_table_of_any_input(ask: Ask) -> None:
    stdin = b"n,words\n7,The king\n"
    _, out, _ = ask("--column", "words", "--id-column", "n", "--format", "csv", stdin=stdin)
    [row] = rows_of(out)
    assert (row["id"], row["n"], row["text"]) == ("7", "7", "The king")


def test_a_row_that_is_broken_costs_itself_alone(ask: Ask, file) -> None:
    name = file("a.tsv", "id\tsentence\nx\tOne.\ny\tTwo.\tThree.\nz\tFour.\n")
    code, out, err = ask("-f", name, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [(row["id"], row["error"] is None) for row in rows] == [
        ("x", True),
        ("y", False),
        ("z", True),
    ]
    assert "a.tsv line 3" in err


@pytest.mark.parametrize("detail", [("--words",), ("--tokens",), ("--regions", "group"), ()])
@pytest.mark.parametrize("shape", ["csv", "tsv", "json", "jsonl"])
def test_every_row_of_the_long_format_has_the_columns_of_its_item(
    ask: Ask, file, detail: tuple[str, ...], shape: str
) -> None:
    name = file(
        "a.csv", 'item,group,sentence\ni1,a a b,"One, two three."\ni2,a b b,Four five six\n'
    )
    _, out, _ = ask("-f", name, "--id-column", "item", *detail, "--format", shape)
    if shape in ("csv", "tsv"):
        rows = rows_of(out, "," if shape == "csv" else "\t")
    else:
        rows = json.loads(out) if shape == "json" else list(map(json.loads, out.splitlines()))
    assert {(row["id"], row["item"], row["group"]) for row in rows} == {
        ("i1", "i1", "a a b"),
        ("i2", "i2", "a b b"),
    }


def test_a_column_named_as_one_of_ours_is_renamed_and_said(ask: Ask, file) -> None:
    name = file("a.csv", "rank,tokens,sentence\n1,9,One.\n")
    _, out, err = ask("-f", name, "--words", "--format", "csv")
    [row] = rows_of(out)
    assert (row["input_rank"], row["rank"]) == ("1", "1")
    assert (row["input_tokens"], row["tokens"]) == ("9", row["tokens"])
    assert "column rank: written as input_rank" in err


def test_a_broken_first_row_hides_no_column(ask: Ask, file) -> None:
    name = file("a.csv", "id,cond,sentence\nx,1\ny,2,Two.\n")
    _, out, _ = ask("-f", name, "--format", "csv")
    assert [(row["id"], row["cond"]) for row in rows_of(out)] == [("x", ""), ("y", "2")]


def test_a_key_that_only_later_rows_have_is_said_to_be_left_out(ask: Ask, file) -> None:
    name = file("a.jsonl", '{"text": "One."}\n{"text": "Two.", "late": 1}\n')
    _, out, err = ask("-f", name, "--format", "csv")
    assert [row["text"] for row in rows_of(out)] == ["One.", "Two."]
    assert "column late is left out" in err
    _, out, err = ask("-f", name, "--format", "jsonl")
    assert json.loads(out.splitlines()[1])["late"] == 1
    assert "left out" not in err


def test_values_that_json_has_not_do_no_harm(ask: Ask, file) -> None:
    name = file("a.jsonl", '{"text": "One.", "a": NaN, "b": [1, {"c": -Infinity}]}\n')
    _, out, _ = ask("-f", name, "--format", "jsonl")
    row = json.loads(out, parse_constant=lambda _: pytest.fail("no JSON"))
    assert row["a"] is None


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--column", "nope"), 2, "Name one: item, condition, sentence"),
        (("--id-column", "nope"), 2, "Name one: item, condition, sentence"),
        (("--regions", "nope"), 2, "has no column 'nope'"),
        (("--regions", "condition"), 3, "1 label for 4 words"),
        (("--bad-column", "x"), 2, "it is of --pairs"),
    ],
)
def test_a_column_that_is_not_there_is_refused(
    ask: Ask, file, args: tuple[str, ...], code: int, says: str
) -> None:
    found, _, err = ask("-f", file("items.tsv", ITEMS), *args)
    assert found == code
    assert says in err


def test_a_text_is_no_table(ask: Ask) -> None:
    """The option can come from a file of defaults, so it is said, and no error."""
    code, out, err = ask("One.", "--column", "x", "--json")
    assert (code, json.loads(out)["text"]) == (0, "One.")
    assert "scored as it is" in err


def test_a_table_without_rows_is_said_to_have_none(ask: Ask, file) -> None:
    code, out, err = ask("-f", file("a.csv", "id,text\n"))
    assert (code, out) == (0, "")
    assert "no rows" in err


def test_a_first_line_that_is_taken_as_a_header_is_shown(ask: Ask, file) -> None:
    _, out, err = ask("-f", file("a.csv", "The king was sad.\nOne.\n"), "--format", "jsonl")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["One."]
    assert "The king was sad." in err
    _, _, err = ask("-f", file("b.csv", "sentence\nOne.\n"))
    assert "header" not in err


def test_a_table_in_utf16_is_refused_with_the_way_out(ask: Ask, tmp_path: Path) -> None:
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_bytes("text\nOne.\n".encode("utf-16"))
        code, out, err = ask("-f", str(tmp_path / name), "--format", "csv")
        assert (code, out) == (65, "")
        assert "iconv -f utf-16" in err


def test_tables_and_whole_files_can_be_mixed(ask: Ask, file) -> None:
    table, whole = file("a.csv", "id,text\nx,One.\n"), file("b.txt", "Two.\nThree.\n")
    _, out, _ = ask("-f", table, whole, "--format", "jsonl")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [f"{table}:x", whole]


def test_a_line_is_named_once_in_its_error(ask: Ask) -> None:
    _, _, err = ask("--lines", "--format", "csv", stdin=b"a\nb\xff\n")
    assert err.count("line 2") == 1


def test_a_header_with_unknown_names_is_asked_about(ask: Ask, file) -> None:
    name = file("p.tsv", "gut\tschlecht\nThe king was.\tThe king were.\n")
    code, out, err = ask("--pairs", name)
    assert (code, out) == (2, "")
    assert "--column gut --bad-column schlecht" in err
    args = ("--column", "gut", "--bad-column", "schlecht")
    code, out, _ = ask("--pairs", name, *args, "--json")
    assert (code, json.loads(out)["pairs"]) == (0, 1)


@pytest.mark.parametrize("head", ["good_one,bad_one\n", "Grammatical,Ungrammatical\n", "a,b,c\n"])
def test_a_header_is_never_scored_as_a_pair(ask: Ask, file, head: str) -> None:
    row = ",".join(["The king."] * (head.count(",") + 1))
    code, out, _ = ask("--pairs", file("p.csv", head + row + "\n"), "--json")
    assert code != 0 or json.loads(out)["pairs"] == 1


def test_pairs_carry_their_columns_and_keep_their_ids(ask: Ask, file) -> None:
    name = file(
        "p.csv",
        "id,field,sentence_good,sentence_bad\np1,agr,A b.,A c.\np2,agr,A\np3,npi,B b.,B c.\n",
    )
    code, out, err = ask("--pairs", name, "--format", "csv")
    rows = rows_of(out)
    assert code == 3
    assert [(row["id"], row["field"]) for row in rows] == [("p1", "agr"), ("p2", ""), ("p3", "npi")]
    assert rows[1]["error"] == f"{name} line 3: 3 fields where the header has 4"
    assert "accuracy" in err


def test_one_bad_byte_costs_one_pair(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "p.tsv"
    file.write_bytes(b"A b.\tA c.\nB b.\tB \xff\nC b.\tC c.\n")
    code, out, _ = ask("--pairs", str(file), "--json")
    shown = json.loads(out)
    assert (code, shown["pairs"]) == (3, 2)
    assert [row["id"] for row in shown["rows"]] == ["1", "2", "3"]
