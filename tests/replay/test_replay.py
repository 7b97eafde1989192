"""`--record` and `gptcli replay`: what is kept of a run, and whether it says the same again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import REAL, TALES, run, start

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def lines(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def change(record: Path, number: int, **changes: object) -> None:
    """Change keys of a line of the record, from 0; None takes one out."""
    found = lines(record)
    found[number] |= changes
    for key in [key for key, value in changes.items() if value is ...]:
        del found[number][key]
    record.write_text("".join(json.dumps(line) + "\n" for line in found))


@pytest.mark.parametrize(
    ("args", "stdin", "answers"),
    [
        (("generate", "Once upon a time"), b"", 1),
        (("generate", "Once", "-n", "3", "--stop", "the", "--logit-bias", "13=2"), b"", 3),
        (("generate", "Once", "--num-beams", "2", "-n", "2"), b"", 2),
        (("generate", "Once", "--greedy", "--logprobs", "2", "--json", "--draft", "off"), b"", 1),
        (("generate", "Once", "--dtype", "bfloat16", "-t", "1.5"), b"", 1),
        (("generate", "Once", "--dtype", "int8", "--bad-words", " the"), b"", 1),
        (("summarize", "--lines"), b"A fox ran.\nA king slept.\n", 2),
        (("classify", "A fine day", "--labels", "good,bad"), b"", 8),
        (("chat",), b"Hello.\nWho are you?\nGo on.\n", 3),
        (("batch", "-", "-o", "-"), b"Once\nThe king\nA fox\n", 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_run_says_the_same_again(
    record: Path, main_in: Cli, args: tuple[str, ...], stdin: bytes, answers: int
) -> None:
    short = () if args[0] == "classify" else ("--max-new-tokens", "9")
    code, _, err = main_in(*args, *TALES, *short, "--record", str(record), stdin=stdin)
    assert code == 0, err
    code, out, err = main_in("replay", str(record), "--json")
    assert code == 0, err
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert len(verdicts) == answers
    assert all(verdict["identical"] for verdict in verdicts)


def test_what_a_record_holds(record: Path, main_in: Cli) -> None:
    args = ("--top-p", "0.5", "--max-new-tokens", "4", "--record", str(record))
    _, out, _ = main_in("generate", "Once", *TALES, *args)
    head, entry = lines(record)
    assert list(head) == [
        *("gptcli_record", "command", "model", "revision", "files", "dtype", "device", "threads"),
        *("slots", "beams", "options", "versions"),
    ]
    assert head["options"] == {"model": "tiny-tales", "offline": True}
    assert {"gptcli", "python", "torch", "tokenizers", "machine"} <= head["versions"].keys()
    assert entry["prompt"] + entry["answers"][0]["text"] + "\n" == out
    assert entry["sampling"].keys() == {"top_p", "max_new_tokens", "seed"}


def test_a_scored_request_has_choices_in_the_record_and_no_sampling(
    record: Path, main_in: Cli
) -> None:
    args = ("--labels", "good,bad", "--seed", "3", "--record", str(record))
    assert main_in("classify", "A fine day", *TALES, *args)[0] == 0
    *_, entry = lines(record)
    assert (entry["choices"], entry["sampling"]) == ([" good", " bad"], {})
    assert [answer["finish_reason"] for answer in entry["answers"]] == ["scored", "scored"]


def test_a_session_on_half_floats_says_the_same(record: Path, main_in: Cli, make_tiny) -> None:
    model = str(make_tiny(n_positions=256))
    said = b"Who is there?\nThe king and his three sons.\nLet me go.\n"
    args = ("-m", model, "--max-new-tokens", "12", "--record", str(record), "--dtype", "float16")
    assert main_in("chat", *args, stdin=said)[0] == 0
    assert lines(record)[0]["dtype"] == "float16"
    code, out, _ = main_in("replay", str(record))
    assert (code, out.count("identical")) == (0, 3)


def test_a_difference_is_shown_where_it_begins(record: Path, main_in: Cli) -> None:
    main_in("generate", "Once", *TALES, "--max-new-tokens", "9", "--record", str(record))
    text = lines(record)[1]["answers"][0]["text"]
    changed = text[:5] + "\x1b[2J"
    answer = lines(record)[1]["answers"][0] | {"text": changed, "sha256": "0" * 64}
    change(record, 1, answers=[answer])
    code, out, err = main_in("replay", str(record))
    assert code == 3, err
    assert out.startswith('0  differs at character 5: "\\u001b[2J" is now ')


def test_hashes_keep_no_text(record: Path, main_in: Cli) -> None:
    secret = "My password is swordfish and"
    kept = ("--record", str(record), "--record-prompt", "hash", "--max-new-tokens", "6")
    _, out, _ = main_in("generate", secret, *TALES, *kept, "--no-echo")
    text = record.read_text()
    assert "swordfish" not in text
    assert out.strip() not in text
    assert main_in("replay", str(record), secret)[0] == 0
    assert main_in("replay", str(record), stdin=secret.encode())[0] == 0
    code, _, err = main_in("replay", str(record), "My password")
    assert (code, "it is not the one that was recorded" in err) == (65, True)
    assert main_in("replay", str(record))[0] == 2


def test_a_prompt_that_is_not_needed_is_refused(record: Path, main_in: Cli) -> None:
    main_in("generate", "Once", *TALES, "--max-new-tokens", "2", "--record", str(record))
    code, _, err = main_in("replay", str(record), "Once")
    assert (code, "the record holds its own" in err) == (2, True)


def test_another_model_is_refused_unless_it_is_allowed(
    record: Path, main_in: Cli, make_tiny
) -> None:
    one, other = (make_tiny(seed=seed) for seed in (1, 2))
    main_in("generate", "Once", "-m", str(one), "--record", str(record), "--max-new-tokens", "5")
    moved = one.with_name("moved")
    one.rename(moved)
    assert main_in("replay", str(record))[0] == 66
    assert main_in("replay", str(record), "-m", str(moved))[0] == 0
    code, _, err = main_in("replay", str(record), "-m", str(other))
    assert (code, "the model was" in err, "--allow-changed-model" in err) == (65, True, True)
    allowed = main_in("replay", str(record), "-m", str(other), "--allow-changed-model")
    assert (allowed[0], "note: the model was" in allowed[2]) == (3, True)


def test_a_replay_stays_offline_where_the_environment_says_so(
    record: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    main_in("generate", "Once", *TALES, "--max-new-tokens", "2", "--record", str(record))
    change(record, 0, options={"model": "someone/model"})
    assert "cannot reach the Hub" in main_in("replay", str(record))[2]
    monkeypatch.setenv("GPTCLI_OFFLINE", "1")
    assert "not in the cache, and offline" in main_in("replay", str(record))[2]


def test_other_versions_are_said(record: Path, main_in: Cli) -> None:
    main_in("generate", "Once", *TALES, "--max-new-tokens", "2", "--record", str(record))
    change(record, 0, versions=lines(record)[0]["versions"] | {"torch": "1.0"})
    code, _, err = main_in("replay", str(record))
    assert (code, "note: torch was 1.0 and is " in err) == (0, True)


@pytest.mark.parametrize(
    ("number", "changes", "told"),
    [
        (0, {"gptcli_record": ...}, "line 1: it is no record of gptcli"),
        (0, {"gptcli_record": 2}, "line 1: its format is 2"),
        (0, {"slots": 10**9}, "line 1: slots is out of range"),
        (0, {"slots": True}, "line 1: slots is of another kind"),
        (0, {"options": {"model": 3}}, "line 1: --model: 3 is not a text"),
        (0, {"options": {"x": 3}}, "line 1: x: there is no such option"),
        (0, {"versions": ...}, "line 1: it has no 'versions'"),
        (1, {"sampling": {"top_p": 7}}, "line 2: --top-p: 7 is out of range"),
        (1, {"sampling": {"stop": [3]}}, "line 2: --stop: (3,) is not a tuple of str"),
        (1, {"sampling": []}, "line 2: sampling is of another kind"),
        (1, {"prompt": 3}, "line 2: prompt is of another kind"),
        (1, {"choices": [3]}, "line 2: choices is no list of texts"),
        (1, {"on_overflow": "x"}, "line 2: on_overflow has an unknown value"),
        (1, {"answers": [3]}, "line 2: an answer is no object"),
        (1, {"answers": [{}]}, "line 2: it has no 'text'"),
    ],
)
def test_a_broken_record_names_line_and_rule(
    record: Path, main_in: Cli, number: int, changes: dict[str, object], told: str
) -> None:
    main_in("generate", "Once", *TALES, "--max-new-tokens", "2", "--record", str(record))
    change(record, number, **changes)
    code, _, err = main_in("replay", str(record))
    assert (code, told in err) == (65, True), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\xff\n", b"[]\n", b"null\n", b"[" * 10000 + b"\n", b'{"gptcli_record": NaN}\n'],
)
def test_what_is_no_record_is_refused(record: Path, main_in: Cli, data: bytes) -> None:
    record.write_bytes(data)
    code, _, err = main_in("replay", str(record))
    assert (code, err.count("\n")) == (65, 1)


def test_a_record_is_not_overwritten_but_with_force(record: Path, main_in: Cli) -> None:
    record.write_text("mine")
    args = ("generate", "Once", *TALES, "--max-new-tokens", "2", "--record", str(record))
    code, _, err = main_in(*args)
    assert (code, "it exists" in err, record.read_text()) == (73, True, "mine")
    assert main_in(*args, "--force")[0] == 0
    assert len(lines(record)) == 2


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path, main_in: Cli) -> None:
    args = ("generate", "Once", *TALES, "--max-new-tokens", "2", "--record")
    assert main_in(*args, str(tmp_path / "no" / "x"))[0] == 73
    assert main_in(*args, "/dev/full")[0] == 74
    both = str(tmp_path / "both")
    assert main_in(*args, both, "-o", both)[0] == 2


def test_rows_of_other_processes_are_not_recorded(record: Path, main_in: Cli) -> None:
    args = ("batch", "-", "-o", str(record), "--workers", "2", "--record", str(record))
    code, _, err = main_in(*args, stdin=b"Once\n")
    assert (code, "other processes compute the rows" in err) == (2, True)


def test_an_interrupted_run_leaves_what_it_finished(record: Path) -> None:
    args = ("--max-new-tokens", "40", "--min-new-tokens", "40", "--record", str(record))
    record.with_name("in").write_text("Once\n" * 500)
    process = start(REAL, "batch", str(record.with_name("in")), "-o", "-", "-b", "1", *TALES, *args)
    deadline = time.monotonic() + 60
    while not record.exists() or record.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = run(REAL, "replay", str(record), "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b'"identical": true') >= 2


def test_failed_and_cancelled_answers_do_not_upset_a_replay(record: Path, main_in: Cli) -> None:
    long = b"word " * 3000
    code, _, _ = main_in(
        "batch", "-", "-o", "-", *TALES, "--max-new-tokens", "3", "--record", str(record),
        stdin=b"Once\n" + long + b"\nTwice\n",
    )  # fmt: skip
    assert code == 3
    assert [entry["answers"][0]["finish_reason"] for entry in lines(record)[1:]].count("error") == 1
    answer = lines(record)[1]["answers"][0]
    if answer["finish_reason"] != "error":
        cut = answer | {"text": answer["text"][:3], "finish_reason": "cancelled"}
        change(record, 1, answers=[cut])
    assert main_in("replay", str(record))[0] == 0


def changed_with_its_time(path: Path) -> None:
    """Change a byte in the middle and set the time of the content back."""
    times = path.stat()
    with path.open("rb+") as file:
        file.seek(times.st_size // 2)
        byte = file.read(1)[0]
        file.seek(times.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_model_that_was_changed_in_secret_is_noticed(
    record: Path, main_in: Cli, tiny: Path
) -> None:
    model = Path(shutil.copytree(tiny, record.with_name("model")))
    args = ("-m", str(model), "--max-new-tokens", "4")
    assert main_in("generate", "Once", *args, "--record", str(record))[0] == 0
    assert main_in("replay", str(record))[0] == 0
    changed_with_its_time(model / "model.safetensors")
    code, _, err = main_in("replay", str(record))
    assert code == 65
    assert "the model was changed: model.safetensors has other contents" in err
    code, _, err = main_in("replay", str(record), "--allow-changed-model")
    assert (code in (0, 3), "has other contents" in err) == (True, True)
    assert main_in("replay", str(record), "-m", str(tiny))[0] == 0  # the same files elsewhere


def test_a_record_of_a_former_version_replays(record: Path, main_in: Cli, tiny: Path) -> None:
    model = Path(shutil.copytree(tiny, record.with_name("model")))
    args = ("-m", str(model), "--max-new-tokens", "4")
    assert main_in("generate", "Once", *args, "--record", str(record))[0] == 0
    change(record, 0, files=...)  # they noted samples of the files, as `revision`
    assert main_in("replay", str(record))[0] == 0
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    code, _, err = main_in("replay", str(record))
    assert (code, " at folder-" in err) == (65, True)


@pytest.mark.parametrize("files", [[], {"a": 1}, {"a": "x"}, "x", 5])
def test_files_of_a_record_are_checked(record: Path, main_in: Cli, files: object) -> None:
    main_in("generate", "Once", *TALES, "--max-new-tokens", "2", "--record", str(record))
    change(record, 0, files=files)
    code, _, err = main_in("replay", str(record))
    assert (code, "line 1" in err) == (65, True)
