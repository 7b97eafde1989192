"""An input that changes under a batch: noticed, said, and no row of another input is written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from gptcli.batch import Batch, BatchResult, Frame, Prompts, run_batch
from gptcli.batch.input import changes
from gptcli.batch.input.changes import InputChanged
from gptcli.engines import open_engine
from gptcli.errors import BadInput, MissingInput
from gptcli.options import Load, Sampling
from gptcli.protocol import Engine
from gptcli.system.units import counted

Change = Callable[[Path, bytes], None]
ROWS = 24
MODEL = Load(model="tiny-tales", offline=True, threads=1)


@cache
def engine() -> Engine:
    return open_engine(MODEL, 2)


@pytest.fixture(params=[0.0, 1000.0], ids=["soon", "late"])
def looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is noticed at the next row, or only where an input ends."""
    monkeypatch.setattr(changes, "SECONDS_BETWEEN_LOOKS", request.param)


def answer(
    inputs: object,
    output: object,
    after: int = 0,
    do: Callable[[], None] = lambda: None,
    *,
    workers: int = 1,
    **options: object,
) -> BatchResult:
    """Run it, and do something after so many rows."""

    def watch(tally: object) -> None:
        if tally.rows == after:  # type: ignore[attr-defined]
            do()

    return run_batch(
        inputs,  # type: ignore[arg-type]
        output,  # type: ignore[arg-type]
        batch=Batch(batch_size="2", workers=workers, **options),  # type: ignore[arg-type]
        load=MODEL,
        sampling=Sampling(max_new_tokens=1, seed=7),
        watch=watch,
        frame=Frame(engine=engine()),
    )


def lines(name: str = "row", count: int = ROWS) -> bytes:
    return b"".join(b"%s %d\n" % (name.encode(), number) for number in range(count))


def jsonl(name: str = "row", count: int = ROWS) -> bytes:
    return b"".join(
        b'{"prompt": "%s %d", "id": "a%d"}\n' % (name.encode(), number, number)
        for number in range(count)
    )


def csv(name: str = "row", count: int = ROWS) -> bytes:
    return b"prompt,other\n" + b"".join(
        b'"%s %d",x\n' % (name.encode(), number) for number in range(count)
    )


def packed(name: str = "row", count: int = ROWS) -> bytes:
    return gzip.compress(lines(name, count), mtime=0)


def zstd(name: str = "row", count: int = ROWS) -> bytes:
    return pytest.importorskip("zstandard").compress(lines(name, count))


def parquet(name: str = "row", count: int = ROWS) -> bytes:
    arrow, library = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sink = arrow.BufferOutputStream()
    table = arrow.table({"prompt": [f"{name} {number}" for number in range(count)]})
    library.write_table(table, sink, row_group_size=5)
    return bytes(sink.getvalue())


def wide(name: str = "row", count: int = ROWS) -> bytes:
    """More than is read at once: a line that is too long for a row stands in the middle."""
    return lines("row", 8) + b"x" * (3 << 20) + b"\n" + lines(name, count)


FORMATS = {
    "in.txt": lines,
    "in.jsonl": jsonl,
    "in.csv": csv,
    "in.txt.gz": packed,
    "in.txt.zst": zstd,
    "in.parquet": parquet,
    "wide.txt": wide,
}


def in_place(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate(len(data))
        file.write(data)


def times_set_back(path: Path, data: bytes) -> None:
    before = path.stat()
    in_place(path, data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path: Path, data: bytes) -> None:
    other = path.with_name(".other")
    other.write_bytes(data)
    other.replace(path)


def linked(path: Path, data: bytes) -> None:
    elsewhere = path.with_name(".elsewhere")
    elsewhere.write_bytes(data)
    path.unlink()
    path.symlink_to(elsewhere)


def removed(path: Path, data: bytes) -> None:
    path.unlink()


def check(folder: Path, path: Path, inputs: object, change: Change, new: bytes, **how: int) -> None:
    """The change is noticed, what is written is of the former input, and it can be gone on with."""
    old = path.read_bytes()
    expected = folder / "expected.jsonl"
    total = answer(inputs, expected).rows
    output = folder / "out.jsonl"
    with pytest.raises(InputChanged) as caught:
        answer(inputs, output, 3, lambda: change(path, new), **how)
    assert caught.value.exit_code == 65
    written = output.read_bytes()
    count = written.count(b"\n")
    assert counted(count, "row") in caught.value.why
    assert "allow_changed_input" in caught.value.hint
    assert count >= 3
    assert expected.read_bytes().startswith(written)
    with pytest.raises((InputChanged, BadInput, MissingInput)) as caught:
        answer(inputs, output)
    if caught.value.what.startswith("output"):  # else it is said what the new input lacks
        assert "allow_changed_input" in caught.value.hint
    assert output.read_bytes() == written
    path.unlink(missing_ok=True)
    path.write_bytes(old)
    assert answer(inputs, output, **how).rows == total
    assert output.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["appended", "truncated", "other rows", "the last row", "empty"])
def test_other_contents_are_noticed(tmp_path: Path, name: str, kind: str) -> None:
    make = FORMATS[name]
    new = {
        "appended": make(count=ROWS + 5),
        "truncated": make()[: len(make()) * 2 // 3],
        "other rows": make("raw"),
        "the last row": make()[:-3] + bytes(byte ^ 1 for byte in make()[-3:]),
        "empty": b"",
    }[kind]
    path = tmp_path / name
    path.write_bytes(make())
    check(tmp_path, path, path, in_place, new)


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize("change", [times_set_back, renamed_over, linked, removed])
@pytest.mark.parametrize("name", ["in.txt", "wide.txt", "in.parquet"])
def test_a_file_in_its_place_is_noticed(tmp_path: Path, name: str, change: Change) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name]())
    check(tmp_path, path, path, change, FORMATS[name]("raw"))


@pytest.mark.parametrize("change", [in_place, renamed_over, removed])
@pytest.mark.parametrize("which", [0, 1])
def test_of_several_inputs_each_is_watched(tmp_path: Path, which: int, change: Change) -> None:
    paths = [tmp_path / "one.txt", tmp_path / "two.jsonl"]
    paths[0].write_bytes(lines(count=2))
    paths[1].write_bytes(jsonl())
    new = [lines("raw", 2), jsonl("raw")][which]
    check(tmp_path, paths[which], paths, change, new)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("{}", name) for name in ("a.txt", "h.txt", "m.txt", "new.txt", "sub/new.md")),
        *(("{}/*.txt", name) for name in ("a.txt", "h.txt", "m.txt", "new.txt")),
    ],
)
def test_a_folder_is_watched(tmp_path: Path, name: str, form: str) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for letter in "abcdefghijklm":
        (folder / f"{letter}.txt").write_text(f"The {letter}")
    inputs, path = form.format(folder), folder / name
    if path.exists():
        check(tmp_path, path, inputs, in_place, b"Another")
        return
    expected, output = tmp_path / "expected.jsonl", tmp_path / "out.jsonl"
    answer(inputs, expected)
    with pytest.raises(InputChanged, match="it was added while the batch ran"):
        answer(inputs, output, 3, lambda: path.write_bytes(b"More") and None)
    with pytest.raises(BadInput, match="there were 13 inputs, now 14"):
        answer(inputs, output)
    path.unlink()
    answer(inputs, output)
    assert output.read_bytes() == expected.read_bytes()


def test_the_output_beside_the_inputs_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(jsonl(count=4))
    assert answer(str(tmp_path / "*.jsonl"), tmp_path / "out.jsonl").rows == 4


def test_the_record_beside_the_inputs_is_none_of_them(
    tmp_path: Path, main_in: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "in.jsonl").write_bytes(jsonl(count=4))
    args = ("-o", str(tmp_path / "out.jsonl"), "--record", str(tmp_path / "run.jsonl"))
    short = ("-m", "tiny-tales", "--offline", "--max-new-tokens", "1")
    code, _, err = main_in("batch", str(tmp_path / "*.jsonl"), *args, *short)
    assert code == 0, err


def same_again(path: Path) -> None:
    renamed_over(path, path.read_bytes())


def touched(path: Path) -> None:
    os.utime(path, (1, 1))
    path.chmod(0o600)
    os.link(path, path.with_name(".link"))


def copied(path: Path) -> None:
    shutil.copy2(path, path.with_name(".copy"))
    path.with_name(".copy").replace(path)


@pytest.mark.parametrize("change", [touched, same_again, copied])
@pytest.mark.parametrize("name", ["in.txt", "wide.txt", "in.parquet"])
def test_what_leaves_the_contents_alone_is_no_change(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name]())
    expected = answer(path, tmp_path / "expected.jsonl").rows
    assert answer(path, tmp_path / "out.jsonl", 3, lambda: change(path)).rows == expected


def test_the_new_input_is_gone_on_with_where_that_is_asked(tmp_path: Path) -> None:
    path, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    path.write_bytes(lines())
    with pytest.raises(InputChanged):
        answer(path, output, 3, lambda: in_place(path, lines(count=ROWS + 5)))
    kept = output.read_bytes()
    result = answer(path, output, allow_changed_input=True)
    assert (result.rows, result.kept) == (ROWS + 5, kept.count(b"\n"))
    assert output.read_bytes().startswith(kept)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_an_output_in_another_format_waits_for_the_former_input(
    tmp_path: Path, suffix: str
) -> None:
    path, output = tmp_path / "in.txt", tmp_path / f"out.{suffix}"
    path.write_bytes(lines())
    with pytest.raises(InputChanged):
        answer(path, output, 3, lambda: in_place(path, lines("raw")))
    assert not output.exists()
    path.write_bytes(lines())
    assert answer(path, output).rows == ROWS
    answer(path, tmp_path / f"expected.{suffix}")
    assert output.read_bytes() == (tmp_path / f"expected.{suffix}").read_bytes()


def test_rows_that_are_sent_are_of_the_former_input(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(lines())
    sent: list[str] = []
    with pytest.raises(InputChanged) as caught:
        answer(path, sent.append, 3, lambda: in_place(path, lines("raw")))
    assert caught.value.hint == "Run it again when the input is whole."
    assert len(sent) >= 3
    assert {json.loads(row)["error"] for row in sent} == {None}


def test_other_processes_finish_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(lines())
    check(tmp_path, path, path, in_place, lines(count=ROWS + 5), workers=2)


def test_a_file_that_is_being_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(lines())
    read = changes.marked

    def while_it_grows(*args: object) -> object:
        with path.open("ab") as file:
            file.write(b"more\n")
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(changes, "marked", while_it_grows)
    with pytest.raises(InputChanged, match="it is being written to"):
        answer(path, tmp_path / "out.jsonl")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.txt"]


def test_a_change_before_the_first_row_is_refused_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(lines())
    read = changes.InputWatch.begin

    def after_a_change(watch: changes.InputWatch, inputs: object) -> None:
        if watch._inputs is not None:
            in_place(path, lines("raw"))
        read(watch, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(changes.InputWatch, "begin", after_a_change)
    with pytest.raises(InputChanged, match="other contents of the same size; 0 rows"):
        answer(path, tmp_path / "out.jsonl")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.txt"]


def test_rows_before_damage_are_written(tmp_path: Path) -> None:
    whole = gzip.compress(
        b"".join(b"row %d %s\n" % (n, os.urandom(9).hex().encode()) for n in range(99))
    )
    path = tmp_path / "in.gz"
    path.write_bytes(whole[:-400])
    output = tmp_path / "out.jsonl"
    with pytest.raises(BadInput, match="ends too early"):
        run_batch(
            path,
            output,
            load=MODEL,
            sampling=Sampling(max_new_tokens=1),
            frame=Frame(engine=engine()),
        )
    readable = len(gzip_rows(whole[:-400]))
    assert output.read_bytes().count(b"\n") >= readable - 1 > 30


def gzip_rows(data: bytes) -> list[bytes]:
    return zlib.decompressobj(wbits=31).decompress(data).split(b"\n")


def test_prompts_and_pipes_cannot_change(tmp_path: Path) -> None:
    assert answer(Prompts(["One", "Two"]), tmp_path / "out.jsonl").rows == 2


def test_a_task_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    task = tmp_path / "gptcli" / "tasks" / "say.toml"
    task.parent.mkdir(parents=True)
    source = Path(changes.__file__).parents[2] / "tasks" / "builtin"
    shutil.copy(source / "summarize.toml", task)
    path = tmp_path / "in.txt"
    path.write_bytes(lines(count=6))
    expected, output = tmp_path / "expected.jsonl", tmp_path / "out.jsonl"
    answer(path, expected, task="say")
    old = task.read_bytes()
    answer(path, output, 2, lambda: task.write_bytes(b"broken = ") and None, task="say")
    assert output.read_bytes() == expected.read_bytes()
    task.write_bytes(old)
    assert answer(path, output, task="say").written == 0
