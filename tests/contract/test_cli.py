"""The command line's contract: what goes to stdout, what to stderr, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import FAKE, REAL, TALES, environment, run
from support.fake_engine import FakeEngine, failing

from gptcli import __version__
from gptcli.cli import registry, root
from gptcli.cli.commands import generate as command
from gptcli.cli.main import explain, main
from gptcli.errors import GptcliError, MissingInput, Unavailable, UsageError
from gptcli.protocol import Request

Answer = tuple[int, str, str]
Cli = Callable[..., Answer]


@pytest.fixture
def cli(main_in: Cli) -> Cli:
    """As `main_in`, on a fake engine."""

    def cli(*args: str, engine: FakeEngine | None = None, stdin: bytes = b"") -> Answer:
        return main_in(*args, engine=engine or FakeEngine(), stdin=stdin)

    return cli


# What is written


def test_text_is_prompt_and_continuation_and_one_newline(cli: Cli) -> None:
    assert cli("generate", "Once") == (0, "Once there was\n", "")


def test_no_echo_leaves_the_prompt_out(cli: Cli) -> None:
    assert cli("generate", "Once", "--no-echo")[1] == " there was\n"


def test_unstreamed_text_is_the_same(cli: Cli) -> None:
    assert cli("generate", "Once", "--no-stream")[1] == "Once there was\n"


def test_newline_of_the_text_is_kept_before_ours(cli: Cli) -> None:
    engine = FakeEngine((" there\n",))
    assert cli("generate", "Once", engine=engine)[1] == "Once there\n\n"


def test_sequences_are_apart_by_a_blank_line(cli: Cli) -> None:
    assert cli("generate", "Once", "-n", "2")[1] == "Once there was\n\nOnce there was\n"


def test_json_of_one_sequence_is_an_object(cli: Cli) -> None:
    answer = json.loads(cli("generate", "Once", "--json")[1])
    assert list(answer) == [
        "id",
        "index",
        "prompt",
        "text",
        "finish_reason",
        "usage",
        "seed",
        "model",
        "revision",
        "truncated",
        "error",
    ]
    assert (answer["prompt"], answer["text"]) == ("Once", " there was")


def test_json_of_several_is_a_list_by_index(cli: Cli) -> None:
    answers = json.loads(cli("generate", "Once", "--format", "json", "-n", "3")[1])
    assert [answer["index"] for answer in answers] == [0, 1, 2]


def test_json_flag_wins_over_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTCLI_FORMAT", "csv")
    assert json.loads(cli("generate", "Once", "--json")[1])["prompt"] == "Once"


def test_json_lines_are_objects_by_index(cli: Cli) -> None:
    lines = cli("generate", "Once", "--format", "jsonl", "-n", "3")[1].splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]


def test_csv_has_a_header_and_flat_rows(cli: Cli) -> None:
    engine = FakeEngine(('a "b",\n',))
    rows = list(csv.DictReader(io.StringIO(cli("generate", "x", "--format=csv", engine=engine)[1])))
    assert rows[0]["text"] == 'a "b",\n'
    assert rows[0]["total_tokens"] == "3"


@pytest.mark.parametrize("shape", ["text", "json", "jsonl", "csv"])
def test_lone_surrogates_do_not_crash(cli: Cli, shape: str) -> None:
    engine = FakeEngine(("\ud800",))
    assert r"\ud800" in cli("generate", "x", "--format", shape, engine=engine)[1]


def test_json_is_utf8_and_not_escaped(cli: Cli) -> None:
    assert "日本" in cli("generate", "日本", "--json")[1]


def test_request_carries_what_was_asked(cli: Cli) -> None:
    asked: list[Request] = []
    cli(
        "generate",
        "Once",
        "--seed",
        "5",
        "--on-overflow=truncate-left",
        engine=FakeEngine(asked=asked),
    )
    assert (asked[0].prompt, asked[0].sampling.seed) == ("Once", 5)
    assert asked[0].on_overflow == "truncate-left"


def test_slots_follow_the_number_of_sequences(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, bool]] = []

    def opening(
        load: object, batch_size: int, beams: bool, progress: object, text: bool
    ) -> FakeEngine:
        seen.append((batch_size, beams))
        return FakeEngine()

    monkeypatch.setattr("gptcli.engines.open_engine", opening)
    monkeypatch.setattr(sys, "stdin", None)
    for args in (["-n", "3"], ["-n", "40"], ["--num-beams", "2"]):
        with pytest.raises(SystemExit):
            main(["generate", "x", *args])
    assert seen == [(3, False), (16, False), (1, True)]


def test_prompt_after_two_dashes_may_begin_with_one(cli: Cli) -> None:
    assert cli("generate", "--", "- Once")[1] == "- Once there was\n"


# What is said


def test_notices_go_to_stderr(cli: Cli) -> None:
    code, out, err = cli("generate", "Once ")
    assert (code, out) == (0, "Once  there was\n")
    assert err.count("gptcli: note: ") == 1


def test_quiet_silences_notices_only(cli: Cli) -> None:
    assert cli("generate", "Once ", "-q") == (0, "Once  there was\n", "")


def test_verbose_ends_with_what_ran(cli: Cli) -> None:
    err = cli("generate", "Once", "-v")[2]
    assert err.startswith("gptcli: note: 2 tokens in ")
    assert "fake in float32 on cpu; seed 7; finished by length" in err


def test_errors_are_sanitised(cli: Cli) -> None:
    err = cli("generate", "-f", "a\x1b]0;x\x07\nb")[2]
    assert err.startswith("gptcli: error: file a^[]0;x^G^Jb: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("flag", [["--json"], ["--format", "json"], ["--format=jsonl"]])
def test_json_errors_are_objects_too(cli: Cli, flag: list[str]) -> None:
    code, out, err = cli("generate", "Once", "--top-p", "2", *flag)
    shown = json.loads(err.splitlines()[1])["error"]
    assert (code, out) == (2, "")
    assert (shown["type"], shown["exit"]) == ("UsageError", 2)
    assert set(shown) == {"type", "message", "hint", "exit"}


def test_debug_shows_a_traceback(cli: Cli) -> None:
    assert "Traceback" in cli("generate", "-f", "/nowhere", "--debug")[2]


def test_a_bug_is_one_line_and_code_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "read_prompt", lambda *_: 1 / 0)
    code, out, err = cli("generate", "Once")
    assert (code, out) == (1, "")
    assert err == (
        "gptcli: error: internal error: ZeroDivisionError: division by zero."
        " Run again with --debug and report it.\n"
    )


def test_out_of_memory_is_said_so() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")):
        assert isinstance(explain(error), Unavailable)


def test_our_errors_are_not_changed() -> None:
    error = MissingInput("a", "b")
    assert explain(error) is error


def test_failed_request_is_raised_after_the_answer(cli: Cli) -> None:
    code, out, err = cli("generate", "Once", engine=failing())
    assert (code, out) == (65, "")
    assert err == "gptcli: error: prompt too long: 70 tokens for 64. Cut it.\n"


def test_failed_request_is_in_the_json(cli: Cli) -> None:
    code, out, _ = cli("generate", "Once", "--json", engine=failing())
    assert code == 65
    assert json.loads(out)["error"]["type"] == "BadInput"


# What is refused before a model is looked for


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--stream", "-n", "2"], "--stream: several sequences cannot be streamed"),
        (["--stream", "--num-beams", "2"], "--stream: beam search"),
        (["--stream", "--json"], "--stream: json"),
        (["--logprobs", "2"], "--logprobs: text cannot hold them"),
        (["--logprobs", "2", "--format", "csv"], "--logprobs: csv"),
    ],
)
def test_combinations_that_make_no_sense(cli: Cli, args: list[str], told: str) -> None:
    code, out, err = cli("generate", "Once", *args)
    assert (code, out) == (2, "")
    assert told in err


def test_unknown_command_suggests(cli: Cli) -> None:
    code, _, err = cli("generat", "Once")
    assert code == 2
    assert "no such command 'generat'. Did you mean 'generate'?" in err


def test_prompt_without_a_command_says_how(cli: Cli) -> None:
    assert "gptcli generate" in cli("Once upon a time")[2]


# Help and version


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"]])
def test_help_is_on_stdout(cli: Cli, args: list[str]) -> None:
    code, out, err = cli(*args)
    assert (code, err) == (0, "")
    assert "generate" in out


def test_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"gptcli {__version__}\n", "")


def test_completion_can_be_shown() -> None:
    assert b"_GPTCLI_COMPLETE" in run(REAL, "--show-completion", "bash").stdout


@pytest.mark.parametrize("entry", registry.COMMANDS, ids=lambda entry: entry.name)
def test_listed_summary_is_that_of_the_command(entry: registry.CommandEntry) -> None:
    loaded = root.LazyCommand(entry).load()
    assert str(loaded.help).startswith(entry.summary)


# The output file


def test_output_file_holds_the_answer(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert cli("generate", "Once", "-o", str(path)) == (0, "", "")
    assert path.read_text() == "Once there was\n"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_file_is_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    code, _, err = cli("generate", "Once", "-o", str(tmp_path / "a.txt"))
    assert code == 73
    assert "--force" in err
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_force_overwrites_and_keeps_the_mode(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine")
    path.chmod(0o600)
    assert cli("generate", "Once", "-o", str(path), "--force")[0] == 0
    assert path.read_text() == "Once there was\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_made_meanwhile_is_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    from gptcli.cli.output.sink import opened
    from gptcli.errors import CannotCreate
    from gptcli.options import Output

    place = tmp_path / "a.txt"

    def lose_the_race() -> None:
        with opened(Output(output=str(place))) as out:
            out.write("ours")
            place.write_text("theirs")

    with pytest.raises(CannotCreate, match="meanwhile"):
        lose_the_race()
    assert place.read_text() == "theirs"


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_stdout_by_its_path_is_stdout(name: str) -> None:
    done = run(FAKE, "generate", "Once", "-o", name)
    assert (done.returncode, done.stdout) == (0, b"Once there was\n")


def test_link_stays_a_link(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "b.txt")
    cli("generate", "Once", "-o", str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "b.txt").read_text() == "Once there was\n"


@pytest.mark.parametrize("name", [".", "no/such/folder/a.txt", "x" * 300])
def test_output_that_cannot_be_made(cli: Cli, tmp_path: Path, name: str) -> None:
    assert cli("generate", "Once", "-o", str(tmp_path / name))[0] == 73


def test_output_dash_is_stdout(cli: Cli) -> None:
    assert cli("generate", "Once", "-o", "-")[1] == "Once there was\n"


def test_failed_request_leaves_no_file(cli: Cli, tmp_path: Path) -> None:
    cli("generate", "Once", "-o", str(tmp_path / "a.txt"), engine=failing())
    assert list(tmp_path.iterdir()) == []


# In a process of its own


has_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)


@has_full_device
@pytest.mark.parametrize(
    "args",
    [
        ["generate", "Once"],
        ["generate", "Once", "--json"],
        ["generate", "Once", "-o", "/dev/full"],
        ["generate", "--help"],
        ["--version"],
    ],
)
def test_full_disk_is_74(args: list[str]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*FAKE, *args],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr.count(b"gptcli: error: ") == 1
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 74),
        ("2>&- --top-p 7", 2),
        pytest.param("2>/dev/full --top-p 7", 2, marks=has_full_device),
        ("2>&-", 0),
        pytest.param("2>/dev/full -v", 0, marks=has_full_device),
        ("<&-", 0),
        (">&- 2>&- <&-", 74),
    ],
)
def test_closed_and_full_streams(redirection: str, code: int) -> None:
    line = f'"$0" "$1" generate Once {redirection}'
    done = subprocess.run(
        ["bash", "-c", line, *FAKE],
        env=environment(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("shape", ["text", "jsonl"])
def test_reader_that_leaves_ends_it_by_sigpipe(shape: str) -> None:
    line = f'"$0" "$1" generate Once --format {shape} -n 400 | head -c 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", line, *FAKE],
        env=environment(FAKE_CHUNKS=["x" * 4096]),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.stdout.endswith(b"141\n")
    assert done.stderr == b""


def test_colour_never_reaches_a_pipe() -> None:
    assert b"\x1b" not in run(FAKE, "generate", "Once", "-v", FORCE_COLOR="1").stdout


def test_pipe_gets_control_characters_as_they_are() -> None:
    text = "\x1b]52;c;aGk=\x07\x9b\u202e\r"
    done = run(FAKE, "generate", "Once", FAKE_CHUNKS=[text[:3], text[3:]])
    assert done.stdout == f"Once{text}\n".encode()


def test_streamed_pieces_are_flushed_at_once() -> None:
    with subprocess.Popen(
        [*FAKE, "generate", "Once"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(FAKE_CHUNKS=[" a", " b"], FAKE_PAUSE=0.7),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"Once a"
        assert process.poll() is None
        process.wait()


# The bundled model, as a user has it


def test_generate_is_repeatable_with_a_seed() -> None:
    runs = {
        run(REAL, "generate", "Once upon a time", *TALES, "--seed", "3", "--max-tokens=8").stdout
        for _ in range(2)
    }
    assert len(runs) == 1
    assert runs.pop().startswith(b"Once upon a time")


def test_json_of_the_bundled_model() -> None:
    done = run(REAL, "generate", "Once", *TALES, "--json", "-n", "2", "--max-tokens", "4", "-q")
    first, second = json.loads(done.stdout)
    assert first["usage"]["completion_tokens"] <= 4
    assert first["text"] != second["text"]


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_text_is_utf8_in_every_locale(locale: str) -> None:
    forced = {} if locale == "C.UTF-8" else {"PYTHONUTF8": 0, "PYTHONCOERCECLOCALE": 0}
    args = ["generate", "Père é日", "--stop", "é"]
    done = run(FAKE, *(arg.encode() for arg in args), LC_ALL=locale, **forced)
    assert done.stdout.decode() == "Père é日 there was\n"


def test_text_is_utf8_where_python_was_told_otherwise() -> None:
    done = run(FAKE, "generate", "Père 日", "--json", PYTHONIOENCODING="iso-8859-1")
    assert json.loads(done.stdout.decode("utf-8"))["prompt"] == "Père 日"


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_bad_bytes_on_stdin(locale: str) -> None:
    forced = {} if locale == "C.UTF-8" else {"PYTHONUTF8": 0, "PYTHONCOERCECLOCALE": 0}
    done = run(FAKE, "generate", stdin=b"a\xff\xfe", LC_ALL=locale, **forced)
    assert done.returncode == 65
    assert b"invalid UTF-8 at byte 1" in done.stderr
    relaxed = run(FAKE, "generate", "--errors=replace", stdin=b"a\xff\xfe", LC_ALL=locale, **forced)
    assert relaxed.stdout.decode() == "a\ufffd\ufffd there was\n"


def test_prompt_longer_than_the_context() -> None:
    done = run(REAL, "generate", *TALES, stdin=b"once upon a time " * 500)
    assert done.returncode == 65
    assert b"--on-overflow" in done.stderr


def test_ten_megabytes_are_refused_at_once() -> None:
    done = run(REAL, "generate", *TALES, stdin=b"a" * (10 << 20))
    assert done.returncode == 65
    assert b"more than 4 MiB" in done.stderr


def test_missing_model_folder() -> None:
    assert run(REAL, "generate", "Once", "-m", "./nowhere").returncode == 66


def test_unknown_model_offline() -> None:
    assert run(REAL, "generate", "Once", "-m", "gpt2-xl", "--offline").returncode == 69


def test_tiny_temperature_is_raised_and_said() -> None:
    done = run(REAL, "generate", "Once", *TALES, "-t", "1e-40", "--max-tokens", "2")
    assert done.returncode == 0
    assert b"raised to 0.01" in done.stderr


def test_every_error_has_a_code_of_its_own() -> None:
    assert UsageError.exit_code == 2
    assert GptcliError.exit_code == 1
