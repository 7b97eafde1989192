"""The commands made from tasks: flags, inputs, shapes of answers. What they say is elsewhere."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import REAL, TALES, environment
from support.fake_engine import INFO, FakeEngine

from gptcli.inputs.lines import InputLine
from gptcli.protocol import Request
from gptcli.tasks.definition import catalog

Answer = tuple[int, str, str]
Cli = Callable[..., Answer]
LABELS = {" positive": -1.0, " negative": -2.0}


@pytest.fixture
def cli(main_in: Cli) -> Cli:
    """As `main_in`, on an engine that writes what `reply` says."""

    def cli(
        *args: str, reply: Callable[[Request], str] = lambda r: " Well. Yes.\n", **more
    ) -> Answer:
        engine = FakeEngine(
            reply=reply,
            info=replace(INFO, context=1000),
            liking=lambda request, choice: LABELS.get(choice, -3.0),
            asked=[],
        )
        cli.asked = engine.asked  # type: ignore[attr-defined]
        return main_in(*args, engine=engine, **more)

    return cli


def asked(cli: Cli) -> list[Request]:
    """What the engine was asked."""
    found: list[Request] = cli.asked  # type: ignore[attr-defined]
    return found


def test_the_tasks_sampling_is_the_commands_default_and_a_flag_wins(cli: Cli) -> None:
    cli("summarize", "x")
    assert (asked(cli)[0].sampling.top_k, asked(cli)[0].sampling.max_new_tokens) == (2, 100)
    cli("summarize", "x", "--top-k", "9")
    assert asked(cli)[0].sampling.top_k == 9


def test_help_shows_the_tasks_defaults(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(cli("translate", "--help")[1].split())
    assert "[default: 0.0]" in shown
    assert "en|fr|de|es|it|pt|nl" in shown


def test_environment_and_configuration_set_a_tasks_options(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('top_k = 7\n[translate]\nto = "nl"\n[summarize]\ntop_k = 8\n')
    monkeypatch.setenv("GPTCLI_CONFIG", str(config))
    monkeypatch.setenv("GPTCLI_FROM", "de")
    cli("translate", "Hallo")
    assert asked(cli)[0].prompt.startswith("Guten Morgen, wie geht es Ihnen? = Goedemorgen")
    assert asked(cli)[0].sampling.top_k == 7
    cli("summarize", "x")
    assert asked(cli)[0].sampling.top_k == 8


def test_lines_give_a_line_each_and_tell_of_those_that_fail(cli: Cli) -> None:
    code, out, err = cli(
        "summarize", "--lines", stdin=b"one\n\n\xff\nfour", reply=lambda r: " A\nb."
    )
    assert (code, out) == (3, "A b.\n\n\nA b.\n")
    assert [line.split(":")[2] for line in err.splitlines()] == [" line 2 is empty", " line 3"]


def test_quiet_lines_still_tell_what_failed(cli: Cli) -> None:
    assert "line 1 is empty" in cli("classify", "--lines", "-q", stdin=b"\nx\n")[2]


ITEMS = "id;cond;text;model\nx;A;Once.;m\ny;B\nx;C;A fox.;n\n;D;A hen.;o\n"


@pytest.fixture
def items(tmp_path: Path) -> str:
    (tmp_path / "items.csv").write_text(ITEMS)
    return str(tmp_path / "items.csv")


def test_lines_of_a_table_have_their_ids_and_other_columns(cli: Cli, items: str) -> None:
    code, out, err = cli("summarize", "--lines", "-f", items, "--json")
    assert code == 3
    assert [(one["id"], one["input"], one["cond"]) for one in json.loads(out)] == [
        ("x", "Once.", "A"),
        ("y", "", None),
        ("x", "A fox.", "C"),
        ("row:4", "A hen.", "D"),
    ]
    assert [one["input_model"] for one in json.loads(out)] == ["m", None, "n", "o"]
    assert err.count("separated by semicolons") == 1
    assert err.count("column model: written as input_model") == 1
    assert f"error: {items} line 3: 2 fields where the header has 4" in err


def test_other_columns_of_a_table_are_columns_of_csv(cli: Cli, items: str) -> None:
    rows = list(
        csv.DictReader(io.StringIO(cli("summarize", "--lines", "-f", items, "--format", "csv")[1]))
    )
    assert [(row["id"], row["cond"]) for row in rows] == [
        *(("x", "A"), ("y", ""), ("x", "C"), ("row:4", "D"))
    ]


def test_options_of_tables_are_refused_without_lines(cli: Cli) -> None:
    code, _, err = cli("summarize", "Once", "--column", "x")
    assert code == 2
    assert "Add --lines" in err


def test_a_file_given_as_the_text_of_lines_is_refused(cli: Cli, items: str) -> None:
    code, out, err = cli("summarize", "--lines", items)
    assert (code, out) == (2, "")
    assert f"Add -f: -f {items}" in err


@pytest.mark.parametrize("args", [("--json",), ("--format", "jsonl"), ("--format", "csv")])
def test_every_shape_has_every_line(cli: Cli, args: tuple[str, ...]) -> None:
    code, out, _ = cli("classify", "--lines", *args, stdin=b"good\n\nbad\n")
    rows = {
        "--json": lambda: json.loads(out),
        "jsonl": lambda: [json.loads(line) for line in out.splitlines()],
        "csv": lambda: list(csv.DictReader(io.StringIO(out))),
    }[args[-1]]()
    assert code == 3
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["text"] for row in rows] == ["positive", "", "positive"]
    assert rows[1]["error"]


def test_labels_and_entities_are_json_in_csv(cli: Cli) -> None:
    out = cli("extract", "Ann", "--format", "csv", reply=lambda r: " Ann (person)")[1]
    [row] = csv.DictReader(io.StringIO(out))
    assert json.loads(row["entities"]) == [{"text": "Ann", "type": "person", "start": 0, "end": 3}]


def test_sequences_are_apart_by_a_blank_line(cli: Cli) -> None:
    assert cli("summarize", "x", "-n", "2")[1] == "Well. Yes.\n\nWell. Yes.\n"
    assert len(json.loads(cli("summarize", "x", "-n", "2", "--json")[1])) == 2


def test_echo_joins_code_and_sets_other_answers_below(cli: Cli) -> None:
    assert cli("code", "a = f(", "--echo", reply=lambda r: "1)")[1] == "a = f(1)\n"
    assert cli("summarize", "x", "--echo")[1] == "x\nWell. Yes.\n"


def test_an_answer_that_is_empty_is_echoed_too(cli: Cli) -> None:
    assert cli("code", "x", "--echo", reply=lambda r: "")[1] == "x\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the user's task `mine`, with these lines beside its description and prompt."""
    folder = tmp_path / "gptcli" / "tasks"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def own(lines: str) -> None:
        (folder / "mine.toml").write_text(f'description = "d"\nprompt = "{{input}}"\n{lines}')

    return own


def test_echo_keeps_an_answer_off_its_input(cli: Cli, own: Callable[[str], None]) -> None:
    own('[answer]\nkind = "text"\n')  # which comes without white space around it
    assert cli("run", "mine", "x", "--echo")[1] == "x\nWell. Yes.\n"


@pytest.mark.parametrize(
    "lines",
    [
        "[answer]\nabstain_below = -0.1\nabstain = 'unknown'\n",
        "[options.least]\ntype = 'number'\nhelp = 'h'\ndefault = -0.1\n"
        "[answer]\nabstain_below = '{least}'\nabstain = 'unknown'\n",
    ],
)
def test_an_answer_that_is_withheld_is_not_shown_before(
    cli: Cli, own: Callable[[str], None], lines: str
) -> None:
    own(lines)
    assert cli("run", "mine", "x")[1] == "unknown\n"


def test_a_line_that_fails_has_a_line_for_each_sequence(cli: Cli) -> None:
    _, out, _ = cli("summarize", "--lines", "-n", "2", stdin=b"\nb\n")
    assert out == "\n\nWell. Yes.\nWell. Yes.\n"


def test_a_rehearsal_rests_while_there_is_no_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr("gptcli.cli.rehearsing.sleep", rests.append)
    lines = [None, InputLine(1, "One."), None, InputLine(2, "Two.")]
    monkeypatch.setattr("gptcli.cli.commands.task.read_lines", lambda *_: iter(lines))
    out = cli("classify", "--labels", "a,b", "--lines", "--dry-run")[1]
    assert out == "Text: One.\nLabel:\n\nText: Two.\nLabel:\n"
    assert len(rests) == 2


def test_a_dry_run_shows_every_prompt_and_says_what_follows(main_in: Cli) -> None:
    text = "The king went to the castle to see the queen and her seven brave daughters. " * 80
    code, out, err = main_in("summarize", *TALES, "--dry-run", text)
    assert (code, out.count("TL;DR:")) == (0, 4)
    assert err == "gptcli: note: not shown: what follows these 4 prompts is made of their answers\n"


def test_a_dry_run_of_a_model_that_is_not_here_downloads_nothing(main_in: Cli) -> None:
    code, out, err = main_in("summarize", "-m", "no/model", "--dry-run", "It rains.")
    assert (code, out) == (0, "It rains.\nTL;DR:\n")
    assert err.startswith("gptcli: note: a text too long for the model is shown unsplit: no/model")


def test_a_dry_run_tells_of_the_prompts_of_the_calibration(main_in: Cli) -> None:
    err = main_in("classify", *TALES, "--labels", "a,b", "--dry-run", "It rains.")[2]
    assert "not shown, scored once for the calibration of the labels: 'Text: N/A\\nLabel:'" in err


def test_a_dry_run_goes_on_after_a_line_that_fails(main_in: Cli) -> None:
    args = ("translate", *TALES, "--to", "de", "--lines", "--dry-run")
    code, out, err = main_in(*args, stdin=b"One.\n\xff\nTwo.\n")
    assert code == 3
    assert [line for line in out.splitlines() if line.endswith(" =")] == ["One. =", "Two. ="]
    assert err.startswith("gptcli: error: line 2: invalid UTF-8")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "the model ended the text at once"),
        (" \n \n", "the model generated only white space"),
    ],
)
def test_an_empty_answer_says_why(cli: Cli, reply: str, why: str) -> None:
    code, out, err = cli("answer", "Who?", reply=lambda request: reply)
    assert (code, out) == (0, "\n")
    assert err == f"gptcli: note: nothing was answered: {why}\n"


def test_verbose_tells_probabilities_and_logprobs(cli: Cli) -> None:
    err = cli("classify", "x", "-v", "--calibration", "none")[2]
    assert "positive 0.731, negative 0.269" in err


def test_an_answer_goes_to_a_file(cli: Cli, tmp_path: Path) -> None:
    assert cli("summarize", "x", "-o", str(tmp_path / "a"))[:2] == (0, "")
    assert (tmp_path / "a").read_text() == "Well. Yes.\n"


def test_a_file_beside_a_question_is_what_it_is_about(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rain.txt").write_text("It rained.\n")
    cli("answer", "What?", "-f", str(tmp_path / "rain.txt"))
    assert asked(cli)[0].prompt == "It rained.\n\nQ: What?\nA:"


def test_standard_input_beside_a_question_is_what_it_is_about(cli: Cli) -> None:
    cli("answer", "What?", stdin=b"It rained.\n")
    assert asked(cli)[0].prompt == "It rained.\n\nQ: What?\nA:"
    cli("answer", stdin=b"What?\n")
    assert asked(cli)[0].prompt.endswith("\nQ: What?\nA:")


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("answer", "What?", "-f", "a.txt", "--context", "b"), "--context is given as well"),
        (("answer", "What?", "--context", ""), "--context: it is empty"),
        (("summarize", " \n "), "empty input"),
        (("classify", "x", "-n", "2"), "nothing is written"),
        (("classify", "x", "--logprobs", "1", "--json"), "nothing is written"),
        (("classify", "x", "--num-beams", "2"), "nothing is written"),
        (("classify", "x", "--stream"), "cannot be streamed"),
        (("answer", "x", "--abstain-below", "-1", "--stream"), "cannot be streamed"),
        (("answer", "x", "--abstain-below", "1"), "out of range"),
        (("answer", "x", "--abstain-below", "-1", "--num-beams", "2"), "no log-probabilities"),
        (("run",), ""),
        (("run", "../x"), "not a task's name"),
        (("tasks", "foo"), "no such command"),
    ],
)
def test_what_does_not_go_together_is_refused(
    cli: Cli, args: tuple[str, ...], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*args)
    assert code == (0 if args == ("run",) else 2)
    assert what in err
    assert cli.asked == []  # type: ignore[attr-defined]


def test_lines_from_a_terminal_are_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptcli.cli.output.stderr.stdin_bytes", lambda: None)
    code, _, err = cli("summarize", "--lines")
    assert code == 2
    assert "no lines" in err


def test_tasks_are_listed_by_run_and_a_broken_one_says_so(cli: Cli) -> None:
    folder = catalog.user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.toml").write_text('description = "My own."\nprompt = "{input}"\n')
    (folder / "broken.toml").write_text("description =")
    try:
        shown = cli("run", "--help")[1]
        assert "My own." in shown
        assert "Broken:" in shown
        assert cli("run", "mine", "x", reply=lambda r: r.prompt * 2)[1] == "xx\n"
        assert cli("run", "broken", "x")[0] == 65
    finally:
        for file in folder.iterdir():
            file.unlink()


def test_an_answer_comes_while_the_pipe_is_still_open() -> None:
    process = subprocess.Popen(
        [*REAL, "classify", "--lines", *TALES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"A good king\n")
    process.stdin.flush()
    assert process.stdout.readline() in (b"positive\n", b"negative\n")
    process.stdin.write(b"A bad wolf")
    assert process.communicate(timeout=30)[0] in (b"positive\n", b"negative\n")
    assert process.returncode == 0


def test_a_blank_answer_says_why(cli: Cli) -> None:
    assert cli("answer", "Who?", reply=lambda request: " \n")[1:] == (
        "\n",
        "gptcli: note: nothing was answered: the model generated only white space\n",
    )
    out, err = cli("answer", "--lines", stdin=b"Who?\nWhat?\n", reply=lambda request: "")[1:]
    assert out == "\n\n"
    assert [line[: len("gptcli: note: line N")] for line in err.splitlines()] == [
        *("gptcli: note: line 1", "gptcli: note: line 2"),
    ]
    assert cli("answer", "Who?", "-q", reply=lambda request: "")[2] == ""
