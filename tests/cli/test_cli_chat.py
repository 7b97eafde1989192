"""`gptcli chat`: through a pipe, and at a terminal with its keys and signals."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import termios
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyte
import pytest
from support.commands import FAKE, REAL, TALES, Terminal, environment, run
from support.fake_engine import INFO, FakeEngine, failing

from gptcli.checkpoints.resolve import BUNDLE
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.cli.interactive.slash import changed
from gptcli.errors import UsageError
from gptcli.options import Sampling

Answer = tuple[int, str, str]
Cli = Callable[..., Answer]
LONG = ["word "] * 400
ASCEND = b"\x1b[A"  # the arrow key up
PROMPTED = b"\x1b[?2004h"  # bracketed paste is on: a line can be typed


@pytest.fixture
def cli(main_in: Callable[..., Answer]) -> Cli:
    """A function that runs `chat` here on a fake engine; gives code, stdout, stderr."""

    def cli(stdin: bytes, *args: str, engine: FakeEngine | None = None) -> Answer:
        return main_in("chat", *args, engine=engine or echoing(), stdin=stdin)

    return cli


def in_folder(folder: Path) -> FakeEngine:
    """As `echoing`, with a model's folder, which a real engine has with its tokenizer."""
    return echoing(info=replace(INFO, folder=folder), tokenizer=load_tokenizer(BUNDLE))


def echoing(**changes: object) -> FakeEngine:
    """A model that says the last message in capitals."""

    def reply(request: object) -> str:
        prompt: str = request.prompt  # type: ignore[attr-defined]
        return " " + prompt.rpartition("Human: ")[2].removesuffix("\nAI:").upper()

    settings = {"info": replace(INFO, context=10_000), "reply": reply, "asked": []}
    return FakeEngine(**{**settings, **changes})  # type: ignore[arg-type]


# Through a pipe


def test_each_line_gets_a_line(cli: Cli) -> None:
    assert cli(b"hi\nbye\n") == (0, "HI\nBYE\n", "")


def test_a_last_line_without_an_end_counts(cli: Cli) -> None:
    assert cli(b"hi\nbye")[1] == "HI\nBYE\n"


@pytest.mark.parametrize("stdin", [b"", b"\n\n", b" \n\t\n"])
def test_nothing_said_is_no_failure(cli: Cli, stdin: bytes) -> None:
    assert cli(stdin) == (0, "", "")


def test_carriage_returns_and_a_byte_order_mark_are_dropped(cli: Cli) -> None:
    assert cli(b"\xef\xbb\xbfhi\r\nbye\r\n")[1] == "HI\nBYE\n"


def test_line_breaks_of_a_reply_become_spaces(cli: Cli) -> None:
    assert cli(b"hi\n", engine=FakeEngine((" a\nb\r\n", "c\rd\x0be\n")))[1] == "a b c d\x0be\n"


def test_bytes_of_a_reply_are_exact_in_a_pipe(cli: Cli) -> None:
    assert cli(b"hi\n", engine=FakeEngine((" \x1b[2J\u202e",)))[1] == "\x1b[2J\u202e\n"


def test_json_lines_hold_the_reply_as_it_is(cli: Cli) -> None:
    out = cli(b"hi\nbye\n", "--json", engine=FakeEngine((" a\nb", "\u202e")))[1]
    assert [json.loads(line)["reply"] for line in out.splitlines()] == ["a\nb\u202e"] * 2
    assert list(json.loads(out.splitlines()[0])) == [
        *("message", "reply", "finish_reason", "usage", "seed", "model", "revision", "error"),
    ]


def test_a_message_can_have_several_lines(cli: Cli) -> None:
    out = cli(b'"""\none\n\n two\n"""\nthree\n', "--json")[1]
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["one\n\n two", "three"]


@pytest.mark.parametrize("typed", [b'"""one\ntwo"""\n', b'"""\none\ntwo"""\n', b'"""one\ntwo\n"""'])
def test_the_quotes_may_share_a_line_with_the_message(cli: Cli, typed: bytes) -> None:
    assert json.loads(cli(typed, "--json")[1])["message"] == "one\ntwo"


@pytest.mark.parametrize(
    ("typed", "message"),
    [(b"//help\n", "/help"), (b'"""/help"""\n', "/help"), (b" /help\n", " /help")],
)
def test_a_message_can_begin_with_a_slash(cli: Cli, typed: bytes, message: str) -> None:
    assert json.loads(cli(typed, "--json")[1])["message"] == message


def test_an_unfinished_message_is_bad_input(cli: Cli) -> None:
    assert cli(b'"""one\ntwo\n')[0] == 65


def test_a_huge_line_is_bad_input(cli: Cli) -> None:
    assert cli(b"x" * (5 << 20))[0] == 65


def test_a_message_that_is_too_long_has_an_empty_line_and_the_next_go_on(cli: Cli) -> None:
    engine = echoing(info=INFO)
    code, out, err = cli(b"hi\n" + b"x" * 999 + b"\nbye\n", engine=engine)
    assert (code, out) == (65, "HI\n\nBYE\n")
    assert "message too long" in err


def test_a_reply_that_fails_is_a_row_with_its_error(cli: Cli) -> None:
    code, out, err = cli(b"hi\n", "--json", engine=failing())
    row = json.loads(out)
    assert (code, row["reply"], row["error"]["exit"]) == (65, None, 65)
    assert "prompt too long" in err


def test_prompts_and_greetings_are_for_terminals(cli: Cli) -> None:
    assert cli(b"hi\n")[2] == ""


def test_verbose_says_what_was_known(cli: Cli) -> None:
    assert "prompt tokens known" in cli(b"hi\n", "-v")[2]


def test_options_reach_the_model(cli: Cli) -> None:
    engine = echoing()
    cli(b"hi\n", "--system", "Be kind.", "--user-name", "Ann", "--bot-name", "Bob", engine=engine)
    assert engine.asked is not None
    assert engine.asked[0].prompt == "Be kind.\n\nAnn: hi\nBob:"


def test_an_own_template_that_breaks_is_a_bad_model(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    code, out, err = cli(b"hi\n", engine=in_folder(tmp_path))
    assert (code, out) == (65, "")
    assert "unusable chat template: chat_template.jinja: line 1" in err


def test_an_own_template_is_used(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("<{{ messages[-1].content }}>")
    engine = in_folder(tmp_path)
    cli(b"hi\n", engine=engine)
    assert engine.asked is not None
    assert engine.asked[0].prompt == "<hi>"


@pytest.mark.parametrize(
    "args",
    [
        ("-n", "2"),
        ("--num-beams", "2"),
        ("--logprobs", "1"),
        ("--format", "csv"),
        ("--template", "x"),
        ("--template", "own"),
        ("--user-name", ""),
        ("--user-name", "AI"),
    ],
)
def test_wrong_usage_is_2(cli: Cli, args: tuple[str, ...]) -> None:
    code, out, _ = cli(b"hi\n", *args)
    assert (code, out) == (2, "")


# Commands


def test_undo_and_retry_and_clear(cli: Cli) -> None:
    engine = echoing()
    code, out, err = cli(b"one\n/retry\ntwo\n/undo\n/clear\nthree\n", engine=engine)
    assert (code, out) == (0, "ONE\nONE\nTWO\nTHREE\n")
    assert engine.asked is not None
    assert engine.asked[-1].prompt.count("Human:") == 1
    assert "taken back: two" in err


def test_exit_leaves(cli: Cli) -> None:
    assert cli(b"one\n/exit\ntwo\n") == (0, "ONE\n", "")


def test_help_lists_the_commands_on_stderr(cli: Cli) -> None:
    code, out, err = cli(b"/help\n")
    assert (code, out) == (0, "")
    for name in ("clear", "save", "load", "set", "undo", "retry", "exit"):
        assert f"/{name}" in err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("/sett", "Did you mean /set?"), ("/ex", "Did you mean /exit?"), ("/", "See /help")],
)
def test_an_unknown_command_says_what_is_near(cli: Cli, typed: str, hint: str) -> None:
    code, out, err = cli(f"{typed}\nhi\n".encode())
    assert (code, out) == (2, "HI\n")
    assert hint in err


@pytest.mark.parametrize("typed", ["/undo", "/save", "/load", "/set nope 1", "/set top_p 7"])
def test_a_command_that_cannot_be_done_is_2_and_the_next_go_on(cli: Cli, typed: str) -> None:
    assert cli(f"{typed}\nhi\n".encode())[:2] == (2, "HI\n")


def test_retry_at_the_beginning_has_an_empty_line(cli: Cli) -> None:
    assert cli(b"/retry\nhi\n")[:2] == (2, "\nHI\n")


def test_save_and_load(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "talk of mine.json"
    assert cli(f"one\n/save {file}\ntwo\n/save {file}\n".encode())[0] == 0
    engine = echoing()
    code, _, err = cli(f"/load {file}\nthree\n".encode(), engine=engine)
    assert code == 0
    assert f"loaded 2 messages and their replies from {file}" in err
    assert engine.asked is not None
    assert "Human: one\nAI: ONE\nHuman: two\nAI: TWO\nHuman: three\nAI:" in engine.asked[0].prompt


@pytest.mark.parametrize(
    ("typed", "code"),
    [("/load nowhere.json", 66), ("/load broken.json", 65), ("/save broken.json", 73)],
)
def test_files_that_fail_have_their_codes(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    assert cli(f"{typed}\nhi\n".encode())[:2] == (code, "HI\n")


def test_the_first_failure_gives_the_code(cli: Cli) -> None:
    assert cli(b"/load nowhere.json\n/nope\n")[0] == 66


def test_settings_change_replies(cli: Cli) -> None:
    engine = echoing()
    cli(b"one\n/set temperature 0.1\n/set max-tokens 5\ntwo\n", engine=engine)
    assert engine.asked is not None
    first, second = (request.sampling for request in engine.asked)
    assert (first.temperature, first.max_new_tokens) == (0.8, None)
    assert (second.temperature, second.max_new_tokens) == (0.1, 5)


def test_set_alone_lists_the_settings(cli: Cli) -> None:
    err = cli(b"/set\n", "--top-p", "0.5", "--stop", "END")[2]
    assert "top_p = 0.5\n" in err
    assert "stop = 'END'\n" in err
    assert "num_beams" not in err


def test_set_with_a_name_shows_one_setting(cli: Cli) -> None:
    assert cli(b"/set top-k\n")[2] == "top_k = 50\n"


@pytest.mark.parametrize(
    ("typed", "field", "value"),
    [
        ("temperature 0", "temperature", 0.0),
        ("temp 1.5", "temperature", 1.5),
        ("top_k 7", "top_k", 7),
        ("--top-k 7", "top_k", 7),
        ("greedy on", "greedy", True),
        ("stop-on-loop no", "stop_on_loop", False),
        ("seed 0", "seed", 0),
        ("seed none", "seed", None),
        ("stop \\n\\n", "stop", ("\n\n",)),
        ("stop none", "stop", ()),
        ("logit_bias 5=2", "logit_bias", (("5", 2.0),)),
        ("temperature none", "temperature", 0.8),
    ],
)
def test_values_are_read_by_their_type(typed: str, field: str, value: object) -> None:
    before = Sampling(temperature=0.3, seed=3, stop=("x",), stop_on_loop=True)
    name, _, text = typed.partition(" ")
    assert changed(before, name, text) == replace(before, **{field: value})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("temperature", "-1"),
        ("top_k", "1.5"),
        ("greedy", "maybe"),
        ("top_p", "0"),
        ("seed", "-1"),
        ("logit_bias", "x"),
        ("tempratur", "1"),
        ("", "1"),
    ],
)
def test_bad_values_are_usage_errors(name: str, text: str) -> None:
    with pytest.raises(UsageError):
        changed(Sampling(), name, text)


# What is never lost


def said_in(file: Path) -> list[str]:
    return [turn["content"] for turn in json.loads(file.read_text())["turns"]]


@pytest.mark.parametrize(
    "typed",
    ["/clear", "/undo", "/clear\nother", "/undo\nother", "/load other.json", "/clear\n/clear"],
)
def test_saving_again_never_loses_what_the_file_has(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    cli(b"else\n/save other.json\n")
    code, _, err = cli(f"one\ntwo\n/save f.json\n{typed}\n/save f.json\n".encode())
    assert code == 73
    assert "/save --force f.json" in err
    assert said_in(tmp_path / "f.json") == ["one", "ONE", "two", "TWO"]


def test_a_text_file_is_not_lost_either(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "f.md"
    assert cli(f"one\n/save {file}\n/clear\n/save {file}\n".encode())[0] == 73
    assert "ONE" in file.read_text()


def test_force_overwrites(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    typed = f"one\n/save {file}\n/clear\ntwo\n/save --force {file}\n"
    assert cli(typed.encode())[0] == 0
    assert said_in(file) == ["two", "TWO"]


def test_a_conversation_that_goes_on_is_saved_again(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    typed = f"one\n/save {file}\n/clear\n/undo\ntwo\n/save {file}\n/load {file}\nthree\n"
    assert cli(f"{typed}/save {file}\n".encode())[0] == 0
    assert said_in(file) == ["one", "ONE", "two", "TWO", "three", "THREE"]


@pytest.mark.parametrize("typed", ["/clear", "/load {file}"])
def test_undo_brings_back_what_was_unsaved(cli: Cli, tmp_path: Path, typed: str) -> None:
    file = tmp_path / "f.json"
    cli(f"zero\n/save {file}\n".encode())
    code, _, err = cli(f"one\ntwo\n{typed.format(file=file)}\n/undo\n/show\n".encode())
    assert code == 0
    assert "2 messages and their replies" in err
    assert "AI: TWO" in err.partition("back: ")[2]


def test_alternatives_are_listed_and_taken(cli: Cli) -> None:
    replies = iter(["a", "b", "c"])
    engine = echoing(reply=lambda request: next(replies))
    code, out, err = cli(b"one\n/retry\n/alt\n/alt 1\n/show\n", engine=engine)
    assert (code, out) == (0, "a\nb\n")
    assert "  1  a\n* 2  b\n" in err
    assert err.endswith("Human: one\n\nAI: a\n")


@pytest.mark.parametrize("typed", ["/alt", "/alt 3", "/alt x", "/edit", "/edit x"])
def test_what_cannot_be_done_is_2(cli: Cli, typed: str) -> None:
    assert cli(f"{typed}\nhi\n".encode())[:2] == (2, "HI\n")


def test_the_system_text_can_be_changed(cli: Cli) -> None:
    engine = echoing()
    cli(b"/system Be kind.\none\n/system\n/system none\ntwo\n", engine=engine)
    assert engine.asked is not None
    first, second = (request.prompt for request in engine.asked)
    assert first.startswith("Be kind.\n")
    assert "Be kind." not in second


@pytest.mark.parametrize("typed", ["/bye", "/quit", "/exit"])
def test_there_are_words_to_leave(cli: Cli, typed: str) -> None:
    assert cli(f"one\n{typed}\ntwo\n".encode()) == (0, "ONE\n", "")


def test_an_opening_message_comes_first(cli: Cli) -> None:
    assert cli(b"two\n", "one") == (0, "ONE\nTWO\n", "")
    assert cli(b"", "/help") == (0, "/HELP\n", "")


def test_a_conversation_can_be_loaded_at_the_start(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    cli(f"one\n/save {file}\n".encode())
    engine = echoing()
    assert cli(b"two\n", "--load", str(file), engine=engine)[:2] == (0, "TWO\n")
    assert engine.asked is not None
    assert "Human: one\nAI: ONE\nHuman: two" in engine.asked[0].prompt


def test_what_cannot_be_loaded_at_the_start_has_its_code(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert cli(b"hi\n", "--load", str(tmp_path / "nowhere.json"))[:2] == (66, "")
    assert cli(b"hi\n", "-c")[:2] == (66, "")
    assert cli(b"hi\n", "-c", "--load", "x.json")[:2] == (2, "")


# The real model, a process of its own


def test_a_real_model_answers_each_line() -> None:
    done = run(REAL, "chat", *TALES, "--max-new-tokens", "8", "--greedy", stdin=b"hi\nbye\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_74() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*FAKE, "chat"],
            input=b"hi\n",
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 74


# At a terminal


class Talking(Terminal):
    """A conversation on a pseudo-terminal, its history in `data`."""

    def __init__(self, data: Path, *args: str, **changes: object) -> None:
        super().__init__(FAKE, "chat", *args, XDG_DATA_HOME=data, **changes)
        self.read_until(b">>> " if changes.get("TERM") == "dumb" else PROMPTED)

    def say(self, typed: bytes, until: bytes) -> bytes:
        """Type, and collect new output up to `until`."""
        before, self.output = self.output, b""
        self.send(typed)
        self.read_until(until)
        new = self.output
        self.output = before + new
        return new

    def ask(self, typed: bytes, until: bytes) -> None:
        """Type a line, see `until`, and wait for the next prompt."""
        if PROMPTED not in self.say(typed + b"\r", until).partition(until)[2]:
            self.say(b"", PROMPTED)

    def screen(self) -> pyte.Screen:
        screen = pyte.Screen(100, 40)
        pyte.ByteStream(screen).feed(self.output)
        return screen

    def leave(self) -> int:
        self.send(b"\x04")
        return self.finish()


def test_a_conversation_at_a_terminal(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.ask(b"hi", b"there was")
    assert talking.leave() == 0
    shown = [line.rstrip() for line in talking.screen().display]
    assert "fake (transcript). /help lists the commands, Ctrl-D leaves." in shown
    assert shown[shown.index(">>> hi") + 1] == "there was"


def test_ctrl_d_leaves_at_once(tmp_path: Path) -> None:
    assert Talking(tmp_path).leave() == 0


def test_quiet_has_no_greeting(tmp_path: Path) -> None:
    talking = Talking(tmp_path, "-q")
    talking.leave()
    assert b"/help" not in talking.output


def test_ctrl_c_stops_only_the_reply_and_keeps_its_text(tmp_path: Path) -> None:
    talking = Talking(tmp_path, FAKE_CHUNKS=LONG, FAKE_PAUSE=0.02)
    talking.say(b"hi\r", b"word word")
    talking.process.send_signal(signal.SIGINT)
    talking.say(b"", PROMPTED)
    talking.ask(f"/save {tmp_path / 'talk.json'}".encode(), b"saved 1 message")
    assert talking.leave() == 0
    reply = json.loads((tmp_path / "talk.json").read_text())["turns"][1]["content"]
    assert reply.startswith("word word")
    assert len(reply) < len("".join(LONG)) / 2


def test_ctrl_c_stops_every_reply(tmp_path: Path) -> None:
    talking = Talking(tmp_path, FAKE_CHUNKS=LONG, FAKE_PAUSE=0.02)
    for _ in range(3):
        talking.say(b"hi\r", b"word word")
        talking.process.send_signal(signal.SIGINT)
        talking.say(b"", PROMPTED)
    assert talking.leave() == 0
    assert b"Traceback" not in talking.output


def test_ctrl_c_at_the_prompt_clears_the_line(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.say(b"forgotten", b"forgotten")
    talking.say(b"\x03", PROMPTED)
    talking.ask(f"/save {tmp_path / 'talk.json'}".encode(), b"saved 0 messages")
    assert talking.leave() == 0


def test_ctrl_c_twice_says_how_to_leave(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    assert b"leaves" not in talking.say(b"\x03", PROMPTED)
    assert b"Ctrl-D or /exit leaves" in talking.say(b"\x03", PROMPTED)
    assert talking.leave() == 0


def test_ctrl_c_while_the_model_loads_ends_the_program(tmp_path: Path) -> None:
    terminal = Terminal(FAKE, "chat", XDG_DATA_HOME=tmp_path, FAKE_LOADING=20)
    terminal.read_until(b"loading")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == -signal.SIGINT


@pytest.mark.parametrize("typed", [b"half a line", b'"""\rhalf a message'])
def test_a_killed_conversation_leaves_the_terminal_in_order(tmp_path: Path, typed: bytes) -> None:
    talking = Talking(tmp_path)
    assert not termios.tcgetattr(talking.end)[3] & termios.ICANON
    talking.say(typed, typed[-6:])
    talking.process.send_signal(signal.SIGTERM)
    talking.read_until(b"\x1b[?2004l\x1b[?25h\r\n")
    assert termios.tcgetattr(talking.end)[3] & termios.ICANON
    assert talking.finish() == -signal.SIGTERM


def test_several_lines_are_typed_between_quotes(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.say(b'"""one\r', PROMPTED)
    talking.ask(b'two"""', b"there was")
    talking.ask(f"/save {tmp_path / 'talk.json'}".encode(), b"saved 1 message")
    assert talking.leave() == 0
    assert json.loads((tmp_path / "talk.json").read_text())["turns"][0]["content"] == "one\ntwo"


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_a_message_of_several_lines_can_be_dropped(tmp_path: Path, key: bytes) -> None:
    talking = Talking(tmp_path)
    talking.say(b'"""one\r', PROMPTED)
    talking.say(key, PROMPTED)
    assert talking.leave() == 0
    assert b"there was" not in talking.output


def test_a_failure_at_a_terminal_goes_on_and_ends_with_0(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.ask(b"/load nowhere.json", b"No such file")
    assert talking.leave() == 0


def test_a_reply_is_sanitised_at_a_terminal(tmp_path: Path) -> None:
    talking = Talking(tmp_path, FAKE_CHUNKS=[" \x1b]0;ow", "ned\x07\x1b[2J", "\x9b31m\u202e done"])
    talking.ask(b"hi", b" done")
    talking.leave()
    assert b"^[]0;owned^G^[[2J\\x9b31m\\u202e done" in talking.output
    assert talking.screen().title == ""


def test_a_name_from_a_file_is_sanitised_at_a_terminal(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    (tmp_path / "evil.json").write_text('{"\\u001b]0;owned\\u0007": 1}')
    talking.ask(f"/load {tmp_path / 'evil.json'}".encode(), b"does not know")
    talking.leave()
    assert b"\x1b]0;" not in talking.output


def kept_in(data: Path) -> list[list[str]]:
    return sorted(map(said_in, (data / "gptcli" / "chats").glob("*.json")))


def test_a_conversation_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.ask(b"hi", b"there was")
    assert kept_in(tmp_path) == [["hi", "there was"]]  # before anyone leaves
    assert talking.leave() == 0
    assert b"gptcli chat -c goes on with it" in talking.output
    again = Talking(tmp_path, "-c")
    again.ask(b"/show", b"AI: there was")
    again.ask(b"bye", b"there was")
    assert again.leave() == 0
    assert kept_in(tmp_path)[-1] == ["hi", "there was", "bye", "there was"]


def test_a_closed_window_keeps_the_text_so_far(tmp_path: Path) -> None:
    talking = Talking(tmp_path, FAKE_CHUNKS=LONG, FAKE_PAUSE=0.02)
    talking.say(b"hi\r", b"word word")
    talking.process.send_signal(signal.SIGHUP)
    assert talking.finish() == -signal.SIGHUP
    [[message, reply]] = kept_in(tmp_path)
    assert (message, reply.startswith("word word")) == ("hi", True)


def test_what_was_cleared_is_kept(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.ask(b"one", b"there was")
    talking.ask(b"/clear", b"/undo brings 1 message and its reply back")
    talking.ask(b"two", b"there was")
    assert talking.leave() == 0
    assert kept_in(tmp_path) == [["one", "there was"], ["two", "there was"]]
    place = tmp_path / "gptcli" / "chats"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_exit_tells_of_what_is_kept_nowhere(tmp_path: Path) -> None:
    talking = Talking(tmp_path, "--no-history")
    talking.ask(b"hi", b"there was")
    talking.ask(b"/exit", b"1 message and its reply not saved")
    talking.send(b"/exit\r")
    assert talking.finish() == 0


def test_what_was_changed_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "f.md"
    talking = Talking(tmp_path)
    talking.ask(b"hi", b"there was")
    talking.ask(f"/save {file}".encode(), b"saved 1 message")
    file.write_text("much better")
    talking.ask(b"bye", b"there was")
    talking.ask(f"/save {file}".encode(), b"it was changed since it was saved")
    assert talking.leave() == 0
    assert file.read_text() == "much better"


def test_a_message_is_edited_in_the_editor(tmp_path: Path) -> None:
    talking = Talking(tmp_path, EDITOR="sed -i s/hi/bye/", VISUAL="")
    talking.ask(b"hi", b"there was")
    talking.ask(b"/edit", b"there was")
    talking.ask(b"/show", b"Human: bye")
    assert talking.leave() == 0
    assert kept_in(tmp_path) == [["bye", "there was"]]


def test_a_reply_is_edited_in_the_editor(tmp_path: Path) -> None:
    talking = Talking(tmp_path, EDITOR="sed -i s/was/is/", VISUAL="")
    talking.ask(b"hi", b"there was")
    talking.ask(b"/edit reply", b"/alt lists")
    talking.ask(b"/show", b"AI: there is")
    assert talking.leave() == 0


def test_an_editor_that_fails_changes_nothing(tmp_path: Path) -> None:
    talking = Talking(tmp_path, EDITOR="false", VISUAL="")
    talking.ask(b"hi", b"there was")
    talking.ask(b"/edit", b"ended with code 1")
    talking.ask(b"/show", b"Human: hi")
    assert talking.leave() == 0


def test_replies_are_wrapped_between_words_at_a_terminal(tmp_path: Path) -> None:
    words = [f" word{number}" for number in range(60)]
    talking = Talking(tmp_path, FAKE_CHUNKS=words, COLUMNS=50)
    talking.ask(b"hi", b"word59")
    talking.leave()
    screen = pyte.Screen(50, 60)
    pyte.ByteStream(screen).feed(talking.output)
    shown = " ".join(line.strip() for line in screen.display).split()
    assert [word for word in shown if word.startswith("word")] == [word.strip() for word in words]


# The history


def test_lines_are_remembered_for_their_owner_alone(tmp_path: Path) -> None:
    talking = Talking(tmp_path)
    talking.ask("grüße \u200d".encode(), b"there was")
    talking.leave()
    file = tmp_path / "gptcli" / "chat_history"
    assert "+grüße \u200d\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = Talking(tmp_path)
    again.say(ASCEND, "grüße".encode())
    again.say(b"\x03", PROMPTED)
    assert again.leave() == 0


def test_no_history_remembers_nothing(tmp_path: Path) -> None:
    talking = Talking(tmp_path, "--no-history")
    talking.ask(b"hi", b"there was")
    talking.leave()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("obstacle", ["file", "folder", "pipe"])
def test_a_history_that_cannot_be_kept_is_only_a_notice(tmp_path: Path, obstacle: str) -> None:
    if obstacle == "file":
        (tmp_path / "gptcli").write_text("")
    else:
        (tmp_path / "gptcli").mkdir()
        place = tmp_path / "gptcli" / "chat_history"
        place.mkdir() if obstacle == "folder" else os.mkfifo(place)
    talking = Talking(tmp_path)
    talking.ask(b"hi", b"there was")
    assert talking.leave() == 0
    assert talking.output.count(b"the history is not kept") == 1


def test_a_dumb_terminal_has_prompts_and_no_escapes(tmp_path: Path) -> None:
    talking = Talking(tmp_path, TERM="dumb")
    talking.say(b"hi\n", b"there was\r\n>>> ")
    assert talking.leave() == 0
    assert b"\x1b" not in talking.output


def test_a_bad_line_has_an_empty_reply_and_the_next_is_answered(cli: Cli) -> None:
    code, out, err = cli(b"hi\n\xff\nyo\n")
    assert (code, out) == (65, "HI\n\nYO\n")
    assert "line 2: invalid UTF-8 at byte 0" in err


def test_a_line_that_is_too_long_is_one_message(cli: Cli) -> None:
    code, out, _ = cli(b"x" * (9 << 20) + b"\nyo\n")
    assert (code, out) == (65, "\nYO\n")
