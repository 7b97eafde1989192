"""When an output is begun, gone on with or refused, and what is on the disk then."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR

import pytest
from support.journal_child import changed, manifest, record, rows, texts, work

from gptcli.batch.input.fingerprints import Fingerprint, marked
from gptcli.batch.input.row import Row
from gptcli.batch.output import records
from gptcli.batch.output.manifest import read_manifest, write_manifest
from gptcli.batch.output.opening import open_changed, open_journal, open_retry
from gptcli.batch.output.stream import Stream, is_stream
from gptcli.errors import BadInput, CannotCreate, MissingInput, UsageError

COUNT = 8
INPUTS = texts(COUNT)
STDIN = (Fingerprint("standard input", None, None),)


@pytest.fixture(autouse=True)
def _quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing takes most of the time, and only a power cut would tell."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None, raising=False)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where an output may be made."""
    return tmp_path / "out.jsonl"


@pytest.fixture
def half(output: Path) -> Path:
    """An output whose run was killed after the fourth row, in the middle of the fifth."""
    work(open_journal(output, manifest(INPUTS)), INPUTS)
    whole = lines(output)
    output.write_bytes(b"".join(whole[:4]) + whole[4][:20])
    sidecar = output.with_name(".out.jsonl.manifest.json")
    write_manifest(sidecar, manifest(INPUTS))
    return output


def lines(output: Path) -> list[bytes]:
    """The lines of a file, with their ends."""
    return output.read_bytes().splitlines(keepends=True)


def everything(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def go_on(output: Path, inputs: list[str] = INPUTS, /, **changes: object) -> int:
    """Run to the end; gives how many rows were computed."""
    return work(open_journal(output, manifest(inputs, **changes)), inputs)


def test_a_row_is_a_line_that_begins_with_its_key(output: Path) -> None:
    go_on(output)
    for row, line in zip(rows(INPUTS), lines(output), strict=True):
        assert line.startswith(f'{{"key": "{row.number}:{row.digest[:16]}", '.encode())
        assert json.loads(line) == {"key": row.key, **record(row)}


def test_a_row_is_one_write(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = os.write
    with open_journal(output, manifest(INPUTS)) as journal:
        for row in rows(INPUTS):
            journal.skip(row)
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", lambda to, data: written.append(data) or write(to, data))
                journal.append(row, record(row))
    assert written == lines(output)


@pytest.mark.parametrize(
    ("fsync", "least", "most"), [("row", COUNT, COUNT + 1), ("1s", 2, 3), ("off", 1, 1)]
)
def test_rows_are_flushed_as_often_as_asked(
    output: Path, monkeypatch: pytest.MonkeyPatch, fsync: str, least: int, most: int
) -> None:
    flushed: list[int] = []
    journal = open_journal(output, manifest(INPUTS), fsync=fsync)
    monkeypatch.setattr(os, "fdatasync", flushed.append, raising=False)
    work(journal, INPUTS)
    assert least <= len(flushed) <= most


def test_closing_flushes(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    journal = open_journal(output, manifest(INPUTS), fsync="off")
    row = rows(INPUTS)[0]
    journal.skip(row)
    journal.append(row, record(row))
    monkeypatch.setattr(os, "fdatasync", flushed.append, raising=False)
    journal.close()
    assert len(flushed) == 1


def test_the_manifest_is_there_before_the_first_row(output: Path) -> None:
    with open_journal(output, manifest(INPUTS)) as journal:
        found = read_manifest(output.with_name(".out.jsonl.manifest.json"))
        assert found is not None
        assert (found.complete, found.rows) == (False, None)
        row = rows(INPUTS)[0]
        journal.skip(row)
        journal.append(row, record(row))


def test_a_complete_output_leaves_its_manifest_only(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    assert everything(output.parent).keys() == {"out.jsonl", ".out.jsonl.manifest.json"}
    found = read_manifest(output.with_name(".out.jsonl.manifest.json"))
    assert found is not None
    assert (found.complete, found.rows, found.failed) == (True, COUNT, 1)


def test_a_run_that_wrote_nothing_leaves_nothing(output: Path) -> None:
    open_journal(output, manifest(INPUTS)).close()
    assert everything(output.parent) == {}


def test_an_empty_input_gives_an_empty_output(output: Path) -> None:
    assert work(open_journal(output, manifest([])), []) == 0
    assert output.read_bytes() == b""
    assert open_journal(output, manifest([])).complete


@pytest.mark.parametrize("resume", [None, True])
def test_what_is_there_is_gone_on_with(half: Path, resume: bool | None) -> None:
    journal = open_journal(half, manifest(INPUTS), resume=resume)
    assert (journal.recovered, journal.failed, journal.complete) == (4, 0, False)
    assert work(journal, INPUTS) == 4
    assert [json.loads(line)["id"] for line in lines(half)] == [row.id for row in rows(INPUTS)]


def test_failed_rows_that_are_there_are_counted(output: Path) -> None:
    inputs = texts(20)
    work(open_journal(output, manifest(inputs)), inputs, failing=True)
    output.write_bytes(b"".join(lines(output)[:12]))
    with open_journal(output, manifest(inputs)) as journal:
        assert (journal.recovered, journal.failed) == (12, 2)


def test_a_complete_output_needs_nothing(output: Path) -> None:
    go_on(output)
    before = everything(output.parent)
    with open_journal(output, manifest(INPUTS)) as journal:
        assert journal.complete
        assert all(journal.skip(row) for row in rows(INPUTS))
        journal.finish()
    assert everything(output.parent) == before


@pytest.mark.parametrize("resume", [None, True, False])
def test_an_output_that_is_not_there_is_begun(output: Path, resume: bool | None) -> None:
    assert work(open_journal(output, manifest(INPUTS), resume=resume), INPUTS) == COUNT


def test_without_resuming_what_is_there_is_refused(half: Path) -> None:
    before = everything(half.parent)
    with pytest.raises(CannotCreate, match=r"exists already.*--force"):
        open_journal(half, manifest(INPUTS), resume=False)
    assert everything(half.parent) == before


def test_a_strangers_file_is_never_appended_to(output: Path) -> None:
    output.write_text('{"my": "notes"}\n')
    with pytest.raises(CannotCreate, match="did not make it"):
        open_journal(output, manifest(INPUTS))
    assert everything(output.parent) == {"out.jsonl": b'{"my": "notes"}\n'}


@pytest.mark.parametrize("text", ["a line\nand another\n", "no line break", '{"key": 1}\n'])
def test_a_strangers_file_in_the_place_of_ours_is_refused(output: Path, text: str) -> None:
    go_on(output)
    write_manifest(output.with_name(".out.jsonl.manifest.json"), manifest(INPUTS))
    output.write_text(text)
    with pytest.raises(BadInput, match="line 1: it does not begin with a row's key"):
        open_journal(output, manifest(INPUTS))
    assert output.read_text() == text


def test_force_starts_over(half: Path) -> None:
    other = [f"other {number}" for number in range(3)]
    assert work(open_journal(half, manifest(other), force=True), other) == 3
    assert len(lines(half)) == 3
    assert work(open_journal(half, manifest(other)), other) == 0


def test_force_overwrites_a_strangers_file(output: Path) -> None:
    output.write_text("notes")
    work(open_journal(output, manifest(INPUTS), force=True), INPUTS)
    assert len(lines(output)) == COUNT


def test_what_is_overwritten_stays_until_the_first_row(half: Path) -> None:
    before = everything(half.parent)
    with open_journal(half, manifest(["other"]), force=True) as journal:
        row = rows(["other"])[0]
        journal.skip(row)
        assert half.read_bytes() == before["out.jsonl"]
    assert everything(half.parent) == before


def test_an_output_without_a_row_is_begun_again_by_any_settings(output: Path) -> None:
    write_manifest(output.with_name(".out.jsonl.manifest.json"), manifest(INPUTS))
    output.write_bytes(b'{"key": "0:01')
    assert go_on(output, model="another") == COUNT


EDITED = {
    "edited": [*INPUTS[:2], "edited", *INPUTS[3:]],
    "inserted": [*INPUTS[:2], "inserted", *INPUTS[2:]],
    "deleted": [*INPUTS[:2], *INPUTS[3:]],
    "reordered": [INPUTS[1], INPUTS[0], *INPUTS[2:]],
    "with CRLF": [text + "\r" for text in INPUTS],
    "of the same length": [INPUTS[0][::-1], *INPUTS[1:]],
}


@pytest.mark.parametrize("inputs", EDITED.values(), ids=EDITED)
def test_a_changed_input_is_refused(half: Path, inputs: list[str]) -> None:
    before = everything(half.parent)
    with pytest.raises(BadInput, match=r"the input in\.txt ha[sd] "):
        go_on(half, inputs)
    assert everything(half.parent) == before


@pytest.mark.parametrize("inputs", EDITED.values(), ids=EDITED)
def test_a_changed_standard_input_is_refused_at_its_first_other_row(
    half: Path, inputs: list[str]
) -> None:
    write_manifest(half.with_name(".out.jsonl.manifest.json"), manifest(INPUTS, inputs=STDIN))
    before = everything(half.parent)
    with pytest.raises(BadInput, match=r"row \d: output .* was made from another input"):
        go_on(half, inputs, inputs=STDIN)
    assert everything(half.parent) == before


@pytest.mark.parametrize("count", [0, 3])
def test_a_shorter_standard_input_is_refused(half: Path, count: int) -> None:
    write_manifest(half.with_name(".out.jsonl.manifest.json"), manifest(INPUTS, inputs=STDIN))
    before = everything(half.parent)
    with pytest.raises(BadInput, match=f"the input had 4 rows and has {count}"):
        go_on(half, INPUTS[:count], inputs=STDIN)
    assert everything(half.parent) == before


def test_a_longer_standard_input_is_refused_when_the_output_is_complete(output: Path) -> None:
    go_on(output, inputs=STDIN)
    before = everything(output.parent)
    with pytest.raises(BadInput, match=f"the input had {COUNT} rows and has more"):
        go_on(output, [*INPUTS, "more"], inputs=STDIN)
    assert everything(output.parent) == before


def test_a_complete_output_of_standard_input_is_compared_row_by_row(output: Path) -> None:
    go_on(output, inputs=STDIN)
    assert not open_and_close(output, inputs=STDIN).complete
    assert go_on(output, inputs=STDIN) == 0


def open_and_close(output: Path, **changes: object):
    journal = open_journal(output, manifest(INPUTS, **changes))
    journal.close()
    return journal


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "gpt2"}, "the model was tiny and is gpt2"),
        ({"revision": "abc"}, 'the model\'s revision was null and is "abc"'),
        ({"version": "0.2.0"}, "gptcli was 0.1.0 and is 0.2.0"),
        ({"settings": {"temperature": 0.7, "stop": ["a", "b"], "seed": 0}}, "was 0.8 and is 0.7"),
        ({"settings": {"temperature": 0.8, "stop": ["a"], "seed": 0}}, 'stop was ["a", "b"] and'),
        ({"settings": {"temperature": 0.8, "seed": 0}}, "and is not there"),
        ({"inputs": ()}, "there was 1 input, now 0"),
        ({"inputs": STDIN}, "the input was in.txt and is standard input"),
    ],
)
def test_what_was_made_differently_is_refused_and_named(
    half: Path, changes: dict[str, object], words: str
) -> None:
    before = everything(half.parent)
    with pytest.raises(BadInput) as caught:
        open_journal(half, manifest(INPUTS, **changes))
    assert words in caught.value.why
    assert "--force" in caught.value.hint
    assert everything(half.parent) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "0.1.9"},
        {"settings": {"seed": 0, "stop": ["a", "b"], "temperature": 0.8}},
        {"inputs": (replace(manifest(INPUTS).inputs[0], name="moved.txt"),)},
    ],
    ids=["patch release", "order", "moved input"],
)
def test_what_makes_no_difference_is_accepted(half: Path, changes: dict[str, object]) -> None:
    assert go_on(half, **changes) == 4


def test_the_same_commit_is_the_same_model_by_any_name(output: Path) -> None:
    go_on(output, model="gpt2", revision="607a30")
    assert open_and_close(output, model="openai-community/gpt2", revision="607a30").complete


DAMAGE = {
    "no JSON": lambda found: [*found[:1], b'{"key": "1:0123456789abcdef", oops}\n', *found[2:]],
    "an empty line": lambda found: [*found[:1], b"\n", *found[1:]],
    "a row twice": lambda found: [*found[:1], found[0], *found[1:]],
    "a row gone": lambda found: [*found[:1], *found[2:]],
    "rows swapped": lambda found: [found[0], found[2], found[1], *found[3:]],
    "another key": lambda found: [found[0], b'{"Key": "1:0123456789abcdef"}\n', *found[2:]],
    "an upper-case digest": lambda found: [found[0], b'{"key": "1:0123456789ABCDEF"}\n'],
    "zeros": lambda found: [found[0], bytes(20) + b"\n", *found[2:]],
    "no UTF-8": lambda found: [found[0], found[1].replace(b"text", b"t\xff"), *found[2:]],
    "CRLF": lambda found: [found[0], found[1].replace(b"\n", b"\r\n"), *found[2:]],
    "nested": lambda found: [
        found[0],
        b'{"key": "1:0123456789abcdef", "a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}\n",
    ],
    "deep": lambda found: [
        found[0],
        b'{"key": "1:0123456789abcdef", "a": ' + b"[" * 300 + b"]" * 300 + b"}\n",
    ],
    "no number of JSON": lambda found: [
        found[0],
        b'{"key": "1:0123456789abcdef", "a": 1e999}\n',
        *found[2:],
    ],
    "torn rows together": lambda found: [found[0], found[1][:25] + found[2], *found[3:]],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_refused_and_named(half: Path, damage) -> None:
    half.write_bytes(b"".join(damage(lines(half))))
    before = everything(half.parent)
    with pytest.raises(BadInput, match="line 2: ") as caught:
        open_journal(half, manifest(INPUTS))
    assert "--force" in caught.value.hint
    assert everything(half.parent) == before


WHOLE = {
    "format": 1,
    "version": "0.1.0",
    "model": "tiny",
    "revision": None,
    "inputs": [],
    "settings": {},
    "rows": None,
    "failed": None,
    "complete": False,
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{",
        "[" * 100_000,
        '{"format": 1}',
        json.dumps(WHOLE | {"format": 2}),
        json.dumps(WHOLE | {"more": 1}),
        json.dumps(WHOLE | {"complete": "yes"}),
        json.dumps(WHOLE | {"complete": True}),
        json.dumps(WHOLE | {"rows": -1}),
        json.dumps(WHOLE | {"rows": True}),
        json.dumps(WHOLE | {"model": 7}),
        json.dumps(WHOLE | {"revision": 7}),
        json.dumps(WHOLE | {"settings": []}),
        json.dumps(WHOLE | {"inputs": {}}),
        json.dumps(WHOLE | {"inputs": [{"name": "a"}]}),
        json.dumps(WHOLE | {"inputs": [{"name": "a", "size": 1, "sha256": "xyz"}]}),
        json.dumps(WHOLE | {"settings": {"a": float("nan")}}),
        json.dumps(WHOLE | {"model": "a" * (1 << 20)}),
    ],
    ids=lambda text: text[:40],
)
def test_a_broken_manifest_is_refused_with_the_way_out(half: Path, text: str) -> None:
    half.with_name(".out.jsonl.manifest.json").write_text(text)
    before = everything(half.parent)
    with pytest.raises(BadInput, match=r"manifest .*--force"):
        open_journal(half, manifest(INPUTS))
    assert everything(half.parent) == before


def test_force_does_not_need_the_manifest(half: Path) -> None:
    half.with_name(".out.jsonl.manifest.json").write_text("broken")
    assert work(open_journal(half, manifest(INPUTS), force=True), INPUTS) == COUNT


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = manifest(INPUTS, settings={"stop": ["ä", "\n"], "n": 3, "x": None}).completed(5, 1)
    write_manifest(tmp_path / "m.json", written)
    assert read_manifest(tmp_path / "m.json") == written


def test_a_manifest_is_flushed_before_it_is_moved_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    move = os.replace

    def flush(descriptor: int) -> None:
        done.append("folder" if S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("moved") or move(a, b))
    write_manifest(tmp_path / "m.json", manifest(INPUTS))
    assert done == ["file", "moved", "folder"]


def test_the_fingerprint_is_that_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    found, _ = marked(tmp_path / "a", "a")
    assert (found.size, str(found.sha256)[:8]) == (3, "ba7816bf")
    with pytest.raises(MissingInput):
        marked(tmp_path / "b", "b")


def test_a_retry_keeps_good_rows_byte_for_byte(output: Path) -> None:
    inputs = texts(20)
    work(open_journal(output, manifest(inputs)), inputs, failing=True)
    before = lines(output)
    before[5] = before[5].replace(b"-1.6666666666666667", b"-1.66666666666666670")
    output.write_bytes(b"".join(before))
    journal = open_retry(output, manifest(inputs))
    assert journal.recovered == 17
    assert work(journal, inputs) == 3
    assert (journal.failed, journal.complete) == (0, True)
    after = lines(output)
    assert [number for number in range(20) if before[number] != after[number]] == [3, 10, 17]
    assert {path.name for path in output.parent.iterdir()} == {
        "out.jsonl",
        ".out.jsonl.manifest.json",
    }


def test_until_a_retry_is_complete_the_output_stays(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    before = output.read_bytes()
    with open_retry(output, manifest(INPUTS)) as journal:
        wanted = [row for row in rows(INPUTS) if not journal.skip(row)]
        journal.append(wanted[0], record(wanted[0]))
        assert output.read_bytes() == before
    assert output.read_bytes() == before
    journal = open_retry(output, manifest(INPUTS))
    assert journal.recovered == COUNT
    assert work(journal, INPUTS) == 0
    assert b"bad" not in output.read_bytes()


def test_rows_that_fail_again_can_be_retried_again(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    before = output.read_bytes()
    journal = open_retry(output, manifest(INPUTS))
    assert work(journal, INPUTS, failing=True) == 1
    assert journal.failed == 1
    assert output.read_bytes() == before
    assert work(open_retry(output, manifest(INPUTS)), INPUTS) == 1


def test_a_retry_of_a_half_done_output_completes_it(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    output.write_bytes(b"".join(lines(output)[:6]) + b'{"key')
    write_manifest(output.with_name(".out.jsonl.manifest.json"), manifest(INPUTS))
    assert work(open_retry(output, manifest(INPUTS)), INPUTS) == 3
    assert len(lines(output)) == COUNT


def test_a_retry_without_failed_rows_changes_nothing(output: Path) -> None:
    go_on(output)
    before = everything(output.parent)
    with open_retry(output, manifest(INPUTS)) as journal:
        assert journal.complete
    assert everything(output.parent) == before


def test_a_retry_is_refused_when_the_input_changed(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS, inputs=STDIN)), INPUTS, failing=True)
    before = everything(output.parent)
    with pytest.raises(BadInput, match="row 2: "):
        work(open_retry(output, manifest(INPUTS, inputs=STDIN)), EDITED["edited"])
    assert everything(output.parent) == before


def test_a_retry_keeps_the_files_mode(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    output.chmod(0o640)
    work(open_retry(output, manifest(INPUTS)), INPUTS)
    assert output.stat().st_mode & 0o777 == 0o640


def test_a_retry_file_of_another_output_is_refused(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    stray = output.with_name(".out.jsonl.retry.jsonl")
    stray.write_bytes(b'{"key": "0:0123456789abcdef"}\n')
    with pytest.raises(BadInput, match=r"does not belong.*Remove it"):
        open_retry(output, manifest(INPUTS))


def test_other_settings_are_refused_for_a_changed_input_too(half: Path) -> None:
    now = changed(INPUTS)
    with pytest.raises(BadInput, match="temperature"):
        open_changed(half, manifest(now, settings={"temperature": 1}))


def test_rows_of_an_unchanged_id_are_taken_over_byte_for_byte(output: Path) -> None:
    def named(inputs: list[str]) -> Iterator[Row]:
        for row in rows(inputs):
            yield Row(row.number, row.digest, f"id of {row.text}", row.text)

    with open_journal(output, manifest(INPUTS)) as journal:
        for row in named(INPUTS):
            journal.skip(row)
            journal.append(row, record(row))
        journal.finish()
    before = lines(output)
    with open_changed(output, manifest(INPUTS[1:])) as journal:
        assert all([journal.skip(row) for row in named(INPUTS[1:])])  # noqa: C419 - all of them
        journal.finish()
    assert [line[line.index(b",") :] for line in lines(output)] == [
        line[line.index(b",") :] for line in before[1:]
    ]


def test_rows_out_of_order_are_a_bug(output: Path) -> None:
    first, second, *_ = rows(INPUTS)
    with open_journal(output, manifest(INPUTS)) as journal:
        with pytest.raises(AssertionError):
            journal.skip(second)
        journal.skip(first)
        journal.skip(second)
        with pytest.raises(AssertionError):
            journal.append(second, record(second))


def test_finishing_with_rows_missing_is_a_bug(output: Path) -> None:
    with open_journal(output, manifest(INPUTS)) as journal:
        journal.skip(rows(INPUTS)[0])
        with pytest.raises(AssertionError):
            journal.finish()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real" / "file.jsonl")
    go_on(link)
    assert link.is_symlink()
    assert len(lines(tmp_path / "real" / "file.jsonl")) == COUNT
    assert open_and_close(tmp_path / "real" / "file.jsonl").complete


def test_a_link_in_the_place_of_a_hidden_file_is_not_followed(output: Path) -> None:
    target = output.with_name("precious")
    target.write_text("precious")
    output.with_name(".out.jsonl.lock").symlink_to(target)
    with pytest.raises(CannotCreate):
        open_journal(output, manifest(INPUTS))
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 120 + ".jsonl", "b" * 250 + ".csv"])
def test_a_very_long_name_works(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    go_on(output)
    assert output.exists()
    assert open_and_close(output).complete


def refused(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Outputs that cannot be made."""
    yield "it is a folder", tmp_path
    yield "no such file or directory", tmp_path / "nowhere" / "out.jsonl"
    yield "file name too long", tmp_path / ("a" * 256)
    yield "not a directory", Path(__file__) / "out.jsonl"
    yield "it is no regular file", Path("/dev/null")


@pytest.mark.parametrize("case", range(5))
def test_an_output_that_cannot_be_made_is_refused(tmp_path: Path, case: int) -> None:
    words, output = list(refused(tmp_path))[case]
    with pytest.raises(CannotCreate, match=words):
        open_journal(output, manifest(INPUTS))
    assert everything(tmp_path) == {}


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(CannotCreate):
        open_journal(tmp_path / "a", manifest(INPUTS))


def test_a_name_with_nul_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="NUL"):
        open_journal(Path("a\0b"), manifest(INPUTS))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_refused(
    output: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: object, **named: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotCreate, match=r"-o"):
        open_journal(output, manifest(INPUTS))


@pytest.mark.parametrize(
    "name", [None, "-", "/dev/stdout", "/dev/fd/1", "/dev/null", "/proc/self/fd/1", "pipe"]
)
def test_what_is_no_file_is_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert is_stream(name)


@pytest.mark.parametrize("name", ["out.jsonl", ".", "there", "a\0b", ""])
def test_a_file_or_folder_is_no_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    assert not is_stream(name)


def test_a_stream_gets_the_same_lines(output: Path) -> None:
    sent: list[str] = []
    stream = Stream(sent.append)
    assert work(stream, INPUTS, failing=True) == COUNT
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    assert [text.encode() for text in sent] == lines(output)
    assert (stream.failed, stream.complete, stream.recovered) == (1, True, 0)


def test_a_line_longer_than_any_row_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_ROW_BYTES", 1000)
    (tmp_path / "rows").write_bytes(b"x" * 5000)
    with pytest.raises(BadInput, match="line 1: it is longer than any row"):
        records.scan(tmp_path / "rows", "rows")
