"""The command line of `gptcli score`: inputs, shapes, order, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from support.commands import REAL, TALES, Terminal, environment, run
from support.fake_engine import FakeEngine, failing

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.cli.output.records import Order
from gptcli.errors import Unavailable
from gptcli.options import Load
from gptcli.protocol import Window

TEXT_KEYS = [
    *("id", "text", "tokens", "scored", "unknown", "words", "characters", "bytes"),
    "logprob",
    *("surprisal_bits", "perplexity", "perplexity_se"),
    *(
        "bits_per_token",
        "bits_per_token_se",
        "bits_per_word",
        "bits_per_character",
        "bits_per_byte",
    ),
    *("model", "revision", "error"),
]
TOKEN_KEYS = [
    *("id", "index", "token", "token_id", "start", "end", "surface", "part"),
    *("logprob", "surprisal_bits", "rank", "entropy_bits", "error"),
]
WORD_KEYS = [
    *("id", "word_number", "word", "start", "end", "words", "tokens", "logprob", "surprisal_bits"),
    "rank",
    *("entropy_bits", "error"),
]
REGION_KEYS = [
    *("id", "region_number", "region_label", "region", "start", "end", "word_number", "words"),
    *("tokens", "logprob", "surprisal_bits", "rank", "entropy_bits", "error"),
]
PAIR_KEYS = [
    *("id", "good", "bad", "logprob_good", "logprob_bad", "surprisal_good_bits"),
    *("surprisal_bad_bits", "difference_bits", "correct", "error"),
]


@pytest.fixture(scope="session")
def engine(tiny: Path) -> FakeEngine:
    """Every token's log-probability is minus the remainder of its id by 5, less one."""

    def expecting(window: Window, place: int) -> float:
        return -1.0 - window.ids[place] % 5

    return FakeEngine(tokenizer=load_tokenizer(tiny), expecting=expecting)


@pytest.fixture
def ask(main_in, engine: FakeEngine):
    """A function that scores by the fake engine; gives code, stdout, stderr."""

    def ask(*args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        return main_in("score", *args, stdin=stdin, engine=engine)

    return ask


def logprob(engine: FakeEngine, text: str) -> float:
    assert engine.tokenizer
    return sum(-1.0 - id % 5 for id in engine.tokenizer.encode(text))


def test_one_text_is_a_line_a_figure(ask, engine: FakeEngine) -> None:
    code, out, err = ask("Once upon")
    assert (code, err) == (0, "")
    names = [line[:19].strip() for line in out.splitlines()]
    assert names == [
        *("tokens", "words", "characters", "bytes", "log-probability", "perplexity"),
        *("bits per token", "bits per word", "bits per character", "bits per byte"),
    ]
    assert f"{logprob(engine, 'Once upon'):.4f} ± " in out
    assert out.count(" ± ") == 6


def test_one_text_is_one_object_of_json(ask, engine: FakeEngine) -> None:
    code, out, _ = ask("Once upon", "--json")
    shown = json.loads(out)
    assert code == 0
    assert list(shown) == TEXT_KEYS
    assert shown["id"] == "0"
    assert shown["text"] == "Once upon"
    assert shown["logprob"] == pytest.approx(logprob(engine, "Once upon"))


@pytest.mark.parametrize("args", [(), ("-",), ("-f", "-")])
def test_standard_input_is_one_text_without_its_last_line_break(ask, args: tuple[str, ...]) -> None:
    _, out, _ = ask(*args, "--json", stdin=b"\xef\xbb\xbfa b\n\n")
    shown = json.loads(out)
    assert (shown["id"], shown["text"], shown["bytes"]) == ("-", None, 4)


@pytest.mark.parametrize(("shape", "separator"), [("csv", ","), ("tsv", "\t")], ids=["csv", "tsv"])
def test_lines_are_rows_in_their_order(ask, shape: str, separator: str) -> None:
    code, out, err = ask("--lines", "--format", shape, stdin=b'a\n\nsay "x",\ty\n')
    rows = list(csv.DictReader(io.StringIO(out), delimiter=separator))
    assert code == 3
    assert list(rows[0]) == TEXT_KEYS
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["text"] for row in rows] == ["a", "", 'say "x",\ty']
    assert rows[1]["logprob"] == ""
    assert rows[1]["error"] == "empty text: there is nothing to score"
    assert rows[0]["error"] == ""
    assert "gptcli: error: line 2: empty text" in err
    assert "gptcli: note: 2 texts together: perplexity" in err


def test_json_lines_hold_the_same(ask) -> None:
    _, out, _ = ask("--lines", "--format", "jsonl", stdin=b"a\nbad \xff\n")
    first, second = map(json.loads, out.splitlines())
    assert list(first) == list(second) == TEXT_KEYS
    assert first["error"] is None
    assert second["error"]["type"] == "BadInput"


def test_lines_of_the_table_are_aligned_and_show_what_cannot_be_seen(ask) -> None:
    _, out, _ = ask("--lines", stdin=b"a\x1b[2J\tb\n" + b"x " * 80 + b"\n")
    head, first, second = out.splitlines()
    place = head.index("text")
    assert json.loads(first[place:]) == "a\x1b[2J\tb"
    assert "\x1b" not in out
    assert second.endswith('..."')
    assert len(second) == place + 62


def test_a_token_is_a_row(ask, engine: FakeEngine) -> None:
    _, out, _ = ask("Once upon a\N{ROCKET}", "--tokens", "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert engine.tokenizer
    ids = engine.tokenizer.encode("Once upon a\N{ROCKET}")
    assert [list(row) for row in rows] == [TOKEN_KEYS] * len(ids)
    assert [row["token_id"] for row in rows] == ids
    assert [row["index"] for row in rows] == list(range(len(ids)))
    assert rows[0]["surprisal_bits"] == pytest.approx((1 + ids[0] % 5) / 0.6931471805599453)
    assert [(row["start"], row["end"]) for row in rows[-4:]] == [(11, 12)] * 4


def test_a_word_is_a_row(ask) -> None:
    _, out, _ = ask("Once  upon a\n", "--words", "--json")
    rows = json.loads(out)
    assert [list(row) for row in rows] == [WORD_KEYS] * 3
    assert [(row["word"], row["start"], row["end"]) for row in rows] == [
        ("Once", 0, 4),
        ("upon", 6, 10),
        ("a", 11, 12),
    ]


def test_a_region_is_a_row(ask, engine: FakeEngine) -> None:
    _, out, _ = ask("Once | upon a", "--regions", "|", "--json")
    rows = json.loads(out)
    assert [list(row) for row in rows] == [REGION_KEYS] * 2
    assert [(row["region_number"], row["region"]) for row in rows] == [(1, "Once"), (2, "upon a")]
    assert sum(row["logprob"] for row in rows) == pytest.approx(logprob(engine, "Once upon a"))
    _, out, _ = ask("Once | upon a", "--regions", "|", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(out)).fieldnames or ()) == REGION_KEYS


def test_words_are_numbered_by_their_region(ask) -> None:
    _, out, _ = ask("Once | upon a", "--regions", "|", "--words", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["region_number"], row["word_number"], row["word"]) for row in rows] == [
        ("1", "1", "Once"),
        ("2", "2", "upon"),
        ("2", "3", "a"),
    ]


@pytest.mark.parametrize("detail", ["--tokens", "--words", "--regions=|"])
def test_a_line_that_fails_is_a_row_among_tokens_and_words(ask, detail: str) -> None:
    code, out, _ = ask("--lines", detail, "--format", "jsonl", stdin=b"a\n\nb\n")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [(row["id"], row["error"] is None) for row in rows] == [
        ("1", True),
        ("2", False),
        ("3", True),
    ]


def test_the_table_of_tokens_quotes_them(ask) -> None:
    _, out, _ = ask("a b\n\x07", "--tokens")
    head, *rows = out.splitlines()
    place = head.rindex("token")
    assert head.split()[0] == "index"
    assert "".join(json.loads(row[place:]) for row in rows) == "a b\n\x07"


def test_several_files_are_a_table(ask, tmp_path: Path) -> None:
    names = []
    for name, text in (("one.txt", "a b c"), ("two.txt", "d"), ("three.txt", "e f\n")):
        (tmp_path / name).write_text(text)
        names.append(str(tmp_path / name))
    code, out, err = ask("-f", *names, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["id"] for row in rows] == names
    assert [row["bytes"] for row in rows] == [5, 1, 3]
    assert {row["text"] for row in rows} == {None}
    assert "3 texts together" in err
    _, table, _ = ask("-f", names[0], "-f", names[1])
    assert [line.split()[0] for line in table.splitlines()] == ["id", *names[:2]]


def test_a_file_that_is_no_text_leaves_the_others_alone(ask, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.bin"
    good.write_text("a b")
    bad.write_bytes(b"\x7fELF\xff\x00")
    code, out, err = ask("-f", str(bad), str(good), "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [row["error"] is None for row in rows] == [False, True]
    assert f"gptcli: error: file {bad}: invalid UTF-8 at byte 4" in err


def test_lines_of_several_files_name_their_file(ask, tmp_path: Path) -> None:
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    for name in names:
        Path(name).write_text("x\ny\n")
    _, out, _ = ask("--lines", "-f", *names, "--format", "jsonl")
    ids = [json.loads(line)["id"] for line in out.splitlines()]
    assert ids == [f"{names[0]}:1", f"{names[0]}:2", f"{names[1]}:1", f"{names[1]}:2"]


def test_the_likeliest_of_several_texts_is_named(ask, engine: FakeEngine) -> None:
    texts = [" a", " king", " x y"]
    sums = [logprob(engine, text) for text in texts]
    code, out, _ = ask("--compare", *texts, "--context", "Once", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["likeliest"] == sums.index(max(sums)) + 1
    margin = (sorted(sums)[-1] - sorted(sums)[-2]) / 0.6931471805599453
    assert shown["margin_bits"] == pytest.approx(margin)
    assert [row["logprob"] for row in shown["texts"]] == pytest.approx(sums)
    assert sum(row["share"] for row in shown["texts"]) == pytest.approx(1)
    _, table, _ = ask("--compare", *texts)
    assert table.splitlines()[-1] == f"likeliest: {shown['likeliest']}, by {margin:.4f} bits"


def test_a_text_that_cannot_be_compared_is_said_once(ask) -> None:
    code, out, err = ask("--compare", "a", "")
    assert (code, out) == (2, "")
    assert err.count("there is nothing to score") == 1


def test_the_context_is_utf8_in_every_locale() -> None:
    args = ("score", *TALES, "--json", "x", "--context")
    one, other = (
        run(REAL, *args, "caf\u00e9".encode(), LC_ALL=locale, PYTHONUTF8=0, PYTHONCOERCECLOCALE=0)
        for locale in ("C.UTF-8", "C")
    )
    assert one.returncode == other.returncode == 0, other.stderr
    assert one.stdout == other.stdout


def test_a_text_inside_the_contexts_last_word_is_pointed_out(ask) -> None:
    _, _, err = ask("--compare", "a", " b", "--context", "Once")
    assert "begin it with a space" in err
    _, _, err = ask("--compare", " a", " b", "--context", "Once")
    assert err == ""


def test_pairs_give_an_accuracy_with_its_interval(ask, engine: FakeEngine, tmp_path: Path) -> None:
    rows = [("a", "b"), ("b", "a"), ("king", "x"), ("a", "a")]
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{good}\t{bad}\n" for good, bad in rows))
    right = [
        0.5 if good == bad else float(logprob(engine, good) > logprob(engine, bad))
        for good, bad in rows
    ]
    code, out, err = ask("--pairs", str(file), "--json")
    shown = json.loads(out)
    assert (code, err) == (0, "")
    assert shown["accuracy"] == sum(right) / 4
    assert shown["low"] < shown["accuracy"] < shown["high"]
    assert (shown["pairs"], shown["ties"]) == (4, right.count(0.5))
    assert [list(row) for row in shown["rows"]] == [PAIR_KEYS] * 4
    assert [row["correct"] for row in shown["rows"]] == right
    _, table, err = ask("--pairs", str(file), "--format", "csv")
    assert [row["good"] for row in csv.DictReader(io.StringIO(table))] == ["a", "b", "king", "a"]
    assert f"accuracy: {sum(right) / 4:.2%}" in err
    _, text, err = ask("--pairs", "-", stdin=file.read_bytes())
    assert text.splitlines()[-1].startswith("accuracy: ")
    assert err == ""


def test_a_pair_that_fails_is_said_and_not_counted(ask, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"good": "a", "bad": "b"}\n{"good": "a"}\n')
    code, out, err = ask("--pairs", str(file), "--json")
    assert code == 3
    assert json.loads(out)["pairs"] == 1
    assert "pairs.jsonl line 2" in err


def test_top_and_bottom_keep_the_most_and_the_least_surprising(ask) -> None:
    _, out, _ = ask("Once upon a time an old king", "--tokens", "--json")
    everything = [row["surprisal_bits"] for row in json.loads(out)]
    _, out, _ = ask("Once upon a time an old king", "--tokens", "--json", "--top", "3")
    assert [row["surprisal_bits"] for row in json.loads(out)] == sorted(everything)[:-4:-1]
    _, out, _ = ask("Once upon a time an old king", "--tokens", "--json", "--bottom", "3")
    assert [row["surprisal_bits"] for row in json.loads(out)] == sorted(everything)[:3]


def test_rows_are_sorted_by_any_number(ask) -> None:
    _, out, _ = ask("Once upon a time", "--tokens", "--json", "--sort", "token_id")
    ids = [row["token_id"] for row in json.loads(out)]
    assert ids == sorted(ids, reverse=True)


def test_equal_rows_stay_in_their_order_and_unknown_ones_go_last() -> None:
    rows = [{"n": 0, "x": None}, {"n": 1, "x": 1.0}, {"n": 2, "x": 2.0}, {"n": 3, "x": 1.0}]
    assert [row["n"] for row in Order("x").applied(iter(rows))] == [2, 1, 3, 0]
    assert [row["n"] for row in Order("x", 2).applied(iter(rows))] == [2, 1]
    assert [row["n"] for row in Order("x", 2, least=True).applied(iter(rows))] == [1, 3]
    assert [row["n"] for row in Order("x", 9).applied(iter(rows))] == [2, 1, 3]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("a", "b"), "Put the text in quotes"),
        (("a", "--tokens", "--words"), "does not go with --tokens"),
        (("a", "--compare"), "Give two texts"),
        (("a", "b", "--compare", "--tokens"), "does not go with --tokens"),
        (("a", "b", "--compare", "--top", "1"), "does not go with --sort, --top or --bottom"),
        (("a", "--tokens", "--regions", "|"), "does not go with --tokens"),
        (("a", "b", "--compare", "--regions", "|"), "does not go with --regions"),
        (("a", "--regions", "condition"), "no mark"),
        (("a", "--regions", ""), "'' is no mark"),
        (("a", "--regions", " "), "'' is no mark"),
        (("a", "--pairs", "x"), "does not go with a text"),
        (("--pairs", "x", "--lines"), "does not go with --lines"),
        (("a", "--sort", "token"), "Name one: tokens, scored"),
        (("a", "--tokens", "--top", "1", "--bottom", "1"), "does not go with --top"),
        (("",), "there is nothing to score"),
        (("a", "--stride", "64"), "at most 63"),
        (("-f", ""), "the name is empty"),
        (("-f", "-", "-"), "asked for twice"),
        (("a", "--top", "0"), "out of range"),
    ],
)
def test_wrong_usage_is_refused(ask, args: tuple[str, ...], says: str) -> None:
    code, out, err = ask(*args)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.parametrize(
    ("args", "stdin", "code"),
    [
        ((), b"bad \xff", 65),
        (("x", "--no-bos"), b"", 65),
        (("-f", "/no/such/file"), b"", 66),
        (("--pairs", "/no/such/file"), b"", 66),
        (("--pairs", "-"), b"a,b,c\n", 65),
        (("-",), b"", 2),
        (("--pairs", "-"), b"", 2),
        (("--pairs", "-"), b"a,\xff", 65),
    ],
)
def test_input_that_cannot_be_used_has_its_exit_code(
    ask, args: tuple[str, ...], stdin: bytes, code: int
) -> None:
    found, out, err = ask(*args, stdin=stdin)
    assert (found, out) == (code, "")
    assert err.startswith("gptcli: error: ")


def test_an_output_file_is_not_overwritten(ask, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    assert ask("a b", "--format", "csv", "-o", str(file))[0] == 0
    before = file.read_text()
    assert ask("x", "--format", "csv", "-o", str(file))[0] == 73
    assert file.read_text() == before
    assert ask("x", "--format", "csv", "-o", str(file), "--force")[0] == 0
    assert file.read_text() != before


def test_what_fails_in_the_engine_is_the_commands_error(main_in, engine: FakeEngine) -> None:
    broken = failing("broken")
    broken.tokenizer = engine.tokenizer
    code, out, err = main_in("score", "a b", engine=broken)
    assert (code, out) == (65, "")
    assert "broken" in err


SHAPES = ["text", "json", "jsonl", "csv", "tsv"]
DETAILS = [(), ("--tokens",), ("--words",), ("--regions", "|"), ("--lines",)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("detail", [*DETAILS, ("--compare", "b"), ("--pairs", "-")])
def test_a_server_has_no_scores(main_in, detail: tuple[str, ...], shape: str) -> None:
    class Remote(FakeEngine):
        @property
        def tokenizer(self) -> None:
            raise Unavailable("--server", "no tokens", "Run the model here")

        @tokenizer.setter
        def tokenizer(self, value: object) -> None:
            pass

    text = ("a b",) if "--pairs" not in detail else ()
    args = (*text, *detail, "--format", shape)
    code, out, err = main_in("score", *args, stdin=b"good,bad\na,b\n", engine=Remote())
    assert (code, out) == (69, "")
    assert "--server" in err


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("detail", [*DETAILS, ("--pairs", "-")])
def test_a_refusal_while_it_runs_leaves_the_output_empty(
    main_in, engine: FakeEngine, detail: tuple[str, ...], shape: str
) -> None:
    class Broken(FakeEngine):
        def run(self, requests):
            next(iter(requests))
            raise Unavailable("the server", "it does not say log-probabilities", "Use another")

    broken = Broken(tokenizer=engine.tokenizer)
    text = ("a b",) if "--pairs" not in detail else ()
    args = (*text, *detail, "--format", shape)
    code, out, _ = main_in("score", *args, stdin=b"good,bad\na,b\n", engine=broken)
    assert (code, out) == (69, "")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("detail", DETAILS[:4])
def test_a_text_without_a_score_leaves_the_output_empty(
    ask, detail: tuple[str, ...], shape: str
) -> None:
    code, out, _ = ask("x", "--no-bos", *detail, "--format", shape)
    assert (code, out) == (65, "")


@pytest.mark.parametrize(
    ("args", "dtype"),
    [((), "float32"), (("--dtype", "auto"), "float32"), (("--dtype", "bfloat16"), "bfloat16")],
)
def test_weights_are_float32_unless_another_dtype_is_named(
    main_in, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], dtype: str
) -> None:
    asked: list[Load] = []

    def opened(load: Load, *_: object, **__: object) -> FakeEngine:
        asked.append(load)
        return engine

    monkeypatch.setattr("gptcli.engines.open_engine", opened)
    assert main_in("score", "a b", *args)[0] == 0
    assert asked[0].dtype == dtype


def test_a_configured_dtype_for_all_commands_does_not_count(
    main_in, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Load] = []

    def opened(load: Load, *_: object, **__: object) -> FakeEngine:
        asked.append(load)
        return engine

    monkeypatch.setattr("gptcli.engines.open_engine", opened)
    file = tmp_path / "config.toml"
    file.write_text('dtype = "bfloat16"\n[score]\nformat = "tsv"\nbos = false\n')
    code, out, _ = main_in("score", "a b", "--config", str(file))
    assert code == 0
    assert asked[0].dtype == "float32"
    assert out.split("\n")[0] == "\t".join(TEXT_KEYS)


def test_the_real_thing_from_a_pipe() -> None:
    done = run(REAL, "score", *TALES, "--lines", "--format", "jsonl", "-q", stdin=b"Once upon\nx\n")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, b"")
    assert rows[0]["logprob"] == pytest.approx(-3.482990, abs=1e-4)
    assert rows[1]["tokens"] == 1


def test_a_row_comes_as_soon_as_its_line_does() -> None:
    with subprocess.Popen(
        [*REAL, "score", *TALES, "--lines", "--format", "jsonl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"Once upon a time\n")
        process.stdin.flush()
        assert json.loads(os.read(process.stdout.fileno(), 4096))["id"] == "1"
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.parametrize("args", [("--tokens",), ("--format", "csv"), ("--words", "--json")])
def test_nothing_reaches_the_terminal_unseen(args: tuple[str, ...]) -> None:
    text = "\x1b]0;title\x07\u202eabc\x9b2J"
    terminal = Terminal(REAL, "score", *TALES, "-q", text, *args)
    assert terminal.finish() == 0
    shown = terminal.output.decode()
    assert "J" in shown
    assert not {"\x1b", "\u202e", "\x9b", "\x07"} & set(shown)


def test_units_say_what_a_word_is(ask) -> None:
    _, out, _ = ask("中文 ok", "--words", "--units", "character", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["word_number"], row["word"], row["words"]) for row in rows] == [
        *(("1", "中", "1"), ("2", "文", "1"), ("3", "o", "1"), ("4", "k", "1"))
    ]
    _, out, _ = ask("中文 ok", "--units", "character", "--json")
    assert (json.loads(out)["words"], json.loads(out)["characters"]) == (4, 5)


def test_labels_of_a_table_are_of_characters(ask) -> None:
    table = "text,part\n中文,a b\n".encode()
    args = "--column", "text", "--regions", "part", "--units", "character", "--format", "csv"
    code, out, _ = ask(*args, stdin=table)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [(row["region_label"], row["region"]) for row in rows] == [("a", "中"), ("b", "文")]


def test_a_missing_segmenter_is_told_before_a_model_loads(
    ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptcli.scoring.units.find_spec", lambda name: None)
    code, out, err = ask("中文", "--units", "jieba")
    assert (code, out) == (69, "")
    assert "pip install 'gptcli[languages]'" in err


def test_a_part_of_a_character_is_that_character_in_the_table(ask) -> None:
    _, out, _ = ask("中", "--tokens")
    tokens = [line.split()[-1] for line in out.splitlines()[1:]]
    assert tokens == [f'"中"·{place}/{len(tokens)}' for place in range(1, len(tokens) + 1)]
