"""Downloads over real HTTP from a Hub that runs in the test, and all that can go wrong with it.

Whatever happens, what is loaded is right: the same run or the next one completes the model, and
until then it is not there.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, snapshot_download
from support.fake_hub import COMMIT, FakeHub, begin_empty, etag, point_at

from gptcli.checkpoints import hub
from gptcli.checkpoints.hub import offer, transfer, watch
from gptcli.checkpoints.names import GPT2
from gptcli.checkpoints.resolve import find_cached, resolve
from gptcli.errors import BadModel, CannotCreate, GptcliError, Unavailable, WriteFailed
from gptcli.options import Load

REPO = "someone/model"
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "tokenizer.json": b"{}",
    WEIGHTS: bytes(range(256)) * 800,
}
NEXT_COMMIT = "f" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no patience."""
    folder = tmp_path / "cache"
    begin_empty(folder, monkeypatch)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(REPO, dict(FILES)) as server:
        point_at(server.url, monkeypatch)
        yield server


def read(folder: Path) -> dict[str, bytes]:
    """The files of a snapshot."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def blobs(cache: Path) -> Path:
    return cache / "models--someone--model" / "blobs"


def part_of(cache: Path, name: str = WEIGHTS) -> Path:
    """Where a download puts what has come of a file."""
    return blobs(cache) / f"{etag(name, FILES[name])}.incomplete"


def refused(says: str, kind: type[GptcliError] = Unavailable) -> GptcliError:
    """A download that fails, after which there is no model."""
    with pytest.raises(kind, match=says) as caught:
        resolve(Load(model=REPO))
    with pytest.raises(Unavailable, match="offline"):
        resolve(Load(model=REPO, offline=True))
    assert find_cached(REPO, COMMIT) is None
    return caught.value


def comes_right() -> None:
    """A download that succeeds, and what is then there offline."""
    found = resolve(Load(model=REPO))
    assert read(found.folder) == FILES
    assert resolve(Load(model=REPO, offline=True)).folder == found.folder


def ranges(fake: FakeHub, name: str = WEIGHTS) -> list[str]:
    """The pieces of a file that were asked for."""
    return [range_ for _, path, range_ in fake.content() if path.endswith(name)]


# --- what is fetched


def test_downloaded_model_is_then_used_offline(fake: FakeHub) -> None:
    first = resolve(Load(model=REPO))
    asked = len(fake.seen)
    again = resolve(Load(model=REPO, offline=True))
    assert (first.source, first.revision) == ("hub", COMMIT)
    assert (again.source, again.revision, again.folder) == ("cache", COMMIT, first.folder)
    assert len(fake.seen) == asked
    assert read(first.folder) == FILES


def test_only_safe_and_needed_files_are_fetched(fake: FakeHub) -> None:
    fake.files |= dict.fromkeys(
        ("pytorch_model.bin", "tf_model.h5", "model.onnx", "README.md", "run.py", "sub/vocab.json"),
        b"x",
    )
    resolve(Load(model=REPO))
    assert fake.fetched() == set(FILES)


def test_shards_are_fetched_with_their_index(fake: FakeHub) -> None:
    del fake.files[WEIGHTS]
    shard = "model-00001-of-00001.safetensors"
    index = b'{"weight_map": {"a": "%s"}}' % shard.encode()
    fake.files |= {"model.safetensors.index.json": index, shard: b"x", "other.safetensors": b"x"}
    resolve(Load(model=REPO))
    assert fake.fetched() == set(fake.files) - {"other.safetensors"}


def test_an_empty_file_is_fetched_too(fake: FakeHub) -> None:
    fake.files["merges.txt"] = b""
    assert (resolve(Load(model=REPO)).folder / "merges.txt").read_bytes() == b""


@pytest.mark.parametrize(
    ("lacking", "rule"),
    [
        (WEIGHTS, "no model.safetensors"),
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
    ],
)
def test_repository_that_lacks_a_file_is_refused_before_downloading(
    fake: FakeHub, lacking: str, rule: str
) -> None:
    del fake.files[lacking]
    fake.files["pytorch_model.bin"] = b"x"
    with pytest.raises(BadModel, match=rule):
        resolve(Load(model=REPO))
    assert fake.fetched() == set()


TOKENIZERS = [
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
    ("encoder.json", "vocab.bpe"),
    ("aitextgen.tokenizer.json",),
    ("aitextgen-vocab.json", "aitextgen-merges.txt"),
]


@pytest.mark.parametrize("names", TOKENIZERS, ids=map(" ".join, TOKENIZERS))
def test_the_files_of_every_kind_of_tokenizer_are_fetched(
    fake: FakeHub, names: tuple[str, ...]
) -> None:
    beside = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
    del fake.files["tokenizer.json"]
    fake.files |= {name: b'{"%s": 1}' % name.encode() for name in (*names, *beside)}
    fake.files |= {"other.txt": b"x", "folder/x.tokenizer.json": b"x", "train.bpe": b"x"}
    found = resolve(Load(model=REPO))
    assert fake.fetched() == {"config.json", WEIGHTS, *names, *beside}
    assert find_cached(REPO) is not None
    for name in names:
        (found.folder / name).unlink()
        assert find_cached(REPO) is None
        (found.folder / name).write_bytes(b"{}")


def test_beside_a_tokenizer_json_no_other_vocabulary_is_fetched(fake: FakeHub) -> None:
    fake.files |= dict.fromkeys(("vocab.txt", "spiece.model", "encoder.json"), b"x")
    resolve(Load(model=REPO))
    assert fake.fetched() == FILES.keys()


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "encoder.json", "vocab.bpe"])
def test_half_a_tokenizer_is_none(fake: FakeHub, name: str) -> None:
    del fake.files["tokenizer.json"]
    fake.files[name] = b"{}"
    with pytest.raises(BadModel, match="no tokenizer"):
        resolve(Load(model=REPO))
    assert fake.fetched() == set()


def test_nothing_is_said_on_stderr(fake: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    fake.statuses = [500, 200]
    hub.download(REPO, "main", progress=None)
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_stderr_alone(
    fake: FakeHub, capfd: pytest.CaptureFixture[str]
) -> None:
    called: list[str] = []
    hub.download(REPO, "main", progress=lambda: called.append(capfd.readouterr().err))
    out, err = capfd.readouterr()
    assert called == [""]  # before the first bar
    assert out == ""
    assert "100%" in err


def test_nothing_is_written_outside_the_cache(fake: FakeHub, tmp_path: Path, cache: Path) -> None:
    fake.damaged[WEIGHTS] = 1
    resolve(Load(model=REPO))
    assert list(tmp_path.iterdir()) == [cache]
    assert {path.name for path in cache.iterdir()} == {".locks", "models--someone--model"}
    assert {path.name for path in blobs(cache).iterdir()} == {
        etag(name, data) for name, data in FILES.items()
    }


# --- the layout of the cache


def test_huggingface_hub_finds_what_was_downloaded(fake: FakeHub) -> None:
    folder = resolve(Load(model=REPO)).folder
    asked = len(fake.seen)
    assert snapshot_download(REPO, local_files_only=True) == str(folder)
    assert hf_hub_download(REPO, WEIGHTS, local_files_only=True) == str(folder / WEIGHTS)
    assert len(fake.seen) == asked


def test_what_huggingface_hub_downloaded_counts(fake: FakeHub) -> None:
    folder = snapshot_download(REPO)
    before = len(fake.content())
    assert str(resolve(Load(model=REPO, offline=True)).folder) == folder
    found = hub.download(REPO, "main", None)
    assert (str(found.folder), found.fetched) == (folder, 0)
    assert len(fake.content()) == before


def test_where_links_cannot_be_made_the_snapshot_holds_the_files(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    comes_right()
    assert list(blobs(cache).iterdir()) == []
    assert hub.download(REPO, "main", None).fetched == 0
    (find_cached(REPO).folder / "tokenizer.json").write_bytes(b"")
    assert hub.download(REPO, "main", None).fetched == len(FILES["tokenizer.json"])
    comes_right()


def test_a_model_under_its_old_id_is_not_fetched_again(fake: FakeHub, cache: Path) -> None:
    fake.repo_id = GPT2
    hub.download(GPT2, "main", None)
    (cache / "models--openai-community--gpt2").rename(cache / "models--gpt2")
    found = hub.download(GPT2, "main", None)
    assert (found.fetched, found.folder.parts[-3]) == (0, "models--gpt2")


def test_a_branch_that_moved_is_followed_once_all_is_there(fake: FakeHub) -> None:
    comes_right()
    fake.commit = NEXT_COMMIT
    fake.files = FILES | {"tokenizer.json": b'{"new": true}'}
    fake.file_status = 404
    with pytest.raises(Unavailable):
        hub.download(REPO, "main", None)
    assert find_cached(REPO).revision == COMMIT
    assert find_cached(REPO, NEXT_COMMIT) is None
    fake.file_status = None
    found = hub.download(REPO, "main", None)
    assert found.fetched == len(b'{"new": true}')  # the weights are the same
    assert find_cached(REPO).revision == NEXT_COMMIT
    assert read(find_cached(REPO, COMMIT).folder) == FILES


def test_config_is_linked_last(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nothing counts as a model, so that one that counts has all of its files."""
    linked: list[str] = []
    real = Path.symlink_to
    monkeypatch.setattr(
        Path, "symlink_to", lambda self, target: (linked.append(self.name), real(self, target))
    )
    fake.files["generation_config.json"] = b"{}"
    resolve(Load(model=REPO))
    assert linked[-1] == "config.json"
    assert len(linked) == 4


def test_a_damaged_file_beside_one_that_is_fetched_is_replaced(fake: FakeHub, cache: Path) -> None:
    folder = Path(snapshot_download(REPO))
    weights = (folder / WEIGHTS).resolve()
    weights.write_bytes(bytes(len(FILES[WEIGHTS])))  # as large as before
    (folder / "tokenizer.json").unlink()
    comes_right()


def test_a_file_of_a_wrong_size_is_fetched_anew(fake: FakeHub) -> None:
    folder = Path(snapshot_download(REPO))
    (folder / WEIGHTS).resolve().write_bytes(b"short")
    hub.download(REPO, "main", None)
    comes_right()


@pytest.mark.parametrize("sum_", ["../../../../x", "", "0" * 41, "A" * 64])
def test_a_listing_with_impossible_checksums_is_refused(
    fake: FakeHub, cache: Path, sum_: str
) -> None:
    fake.listed[WEIGHTS] = sum_
    refused("does not answer as a Hub")
    assert not cache.exists()


# --- questions


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "no such model"),
        (404, "", "no such model"),
        (404, "RevisionNotFound", "no revision 'main'"),
        (401, "RepoNotFound", "no such model"),
        (401, "", "hf auth login"),
        (403, "GatedRepo", "gated"),
        (403, "", "refuses access"),
        (429, "", "limits requests"),
        (500, "", r"an error \(500\)"),
        (503, "", r"an error \(503\)"),
    ],
)
def test_answer_of_the_hub_is_explained(fake: FakeHub, status: int, code: str, says: str) -> None:
    fake.status, fake.error_code = status, code
    refused(says)


def test_the_wait_that_the_hub_asks_for_is_told(fake: FakeHub) -> None:
    fake.status, fake.retry_after = 429, "271"
    assert "Wait 271 s" in refused("limits requests").hint


def test_unknown_model_gets_a_suggestion(fake: FakeHub) -> None:
    with pytest.raises(Unavailable, match="Did you mean -m gpt2"):
        resolve(Load(model="gpt2-small"))


def test_refused_connection_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        point_at(f"http://127.0.0.1:{probe.getsockname()[1]}", monkeypatch)
    begun = time.monotonic()
    refused("cannot reach the Hub")
    assert time.monotonic() - begun < 3


def test_server_that_never_answers_ends_in_time(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offer, "REACH_SECONDS", 0.3)
    fake.silent = True
    begun = time.monotonic()
    refused("cannot reach the Hub")
    assert time.monotonic() - begun < 3


def test_server_that_is_not_a_hub_is_explained(fake: FakeHub) -> None:
    fake.status = 200
    refused("cannot reach the Hub")


# --- transfers that break off


def test_cut_off_transfer_goes_on_where_it_stopped(fake: FakeHub) -> None:
    fake.cuts[WEIGHTS] = [1000, 100_000, 5]
    comes_right()
    assert ranges(fake) == ["", "bytes=1000-", "bytes=101000-", "bytes=101005-"]


def test_the_next_run_goes_on_where_a_failed_one_stopped(fake: FakeHub, cache: Path) -> None:
    fake.cuts[WEIGHTS] = [1000] * transfer.MAX_FUTILE_TRIES
    assert "goes on" in refused("the download of model.safetensors failed").hint
    assert part_of(cache).stat().st_size == 1000 * transfer.MAX_FUTILE_TRIES
    before = len(fake.content())
    comes_right()
    assert [(path.rpartition("/")[2], range_) for _, path, range_ in fake.content()[before:]] == [
        (WEIGHTS, "bytes=5000-")
    ]
    assert not part_of(cache).exists()


def test_a_transfer_that_brings_something_each_time_is_not_given_up(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MIN_BYTES", 1000)
    fake.cuts[WEIGHTS] = [1000, *[3] * (transfer.MAX_FUTILE_TRIES - 1)] * 3
    comes_right()


@pytest.mark.parametrize("how", ["ignored", "shifted"])
def test_a_server_that_answers_another_range_gives_the_right_file(fake: FakeHub, how: str) -> None:
    fake.ranges = how
    fake.cuts[WEIGHTS] = [70_000]
    comes_right()


def test_a_server_that_begins_again_each_time_is_given_up(fake: FakeHub) -> None:
    fake.ranges = "ignored"
    fake.cuts[WEIGHTS] = [70_000, 140_000] * 20
    refused("the download of model.safetensors failed")
    assert len(ranges(fake)) == 2 + transfer.MAX_FUTILE_TRIES
    fake.cuts.clear()
    comes_right()


def test_a_server_that_sends_without_end_gives_the_right_file(fake: FakeHub) -> None:
    fake.endless = True
    comes_right()


def test_an_answer_that_ends_in_its_headers_is_asked_for_again(fake: FakeHub) -> None:
    fake.torn_headers = 2
    comes_right()


def test_answers_that_always_end_in_their_headers_are_given_up(fake: FakeHub) -> None:
    fake.torn_headers = 10**6
    refused("the download of config.json failed")
    fake.torn_headers = 0
    comes_right()


@pytest.mark.parametrize("size", [7, len(FILES[WEIGHTS]) - 1, len(FILES[WEIGHTS]) + 1])
def test_a_size_that_is_not_true_fails_until_it_is(fake: FakeHub, size: int) -> None:
    fake.claimed[WEIGHTS] = size
    refused("the download of model.safetensors failed")
    fake.claimed.clear()
    comes_right()


def test_a_hub_that_goes_silent_in_a_file_is_given_up_in_time(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.4)
    fake.hangs[WEIGHTS] = 100_000
    begun = time.monotonic()
    refused(r"the download stalled \(less than 64 KiB came in 0.4 s\)")
    assert time.monotonic() - begun < 3
    assert part_of(cache).stat().st_size == 100_000
    fake.hangs.clear()
    monkeypatch.undo()


def test_a_silent_hub_is_asked_again_before_it_is_given_up(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    fake.hangs[WEIGHTS] = 100_000
    refused("the download of model.safetensors failed")
    assert ranges(fake) == ["", *["bytes=100000-"] * transfer.MAX_FUTILE_TRIES]


def test_a_file_that_comes_byte_by_byte_is_given_up(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.4)
    fake.drips = {WEIGHTS}
    refused("the download stalled")


def test_a_slow_transfer_is_not_given_up(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(watch, "MIN_BYTES", 1024)
    fake.pause, fake.piece = 0.04, 8192
    begun = time.monotonic()
    comes_right()
    assert time.monotonic() - begun > 0.8


# --- content that is wrong


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_came_damaged_is_fetched_once_more(fake: FakeHub, name: str) -> None:
    fake.damaged[name] = 1
    comes_right()
    assert ranges(fake, name) == ["", ""]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_always_comes_damaged_is_never_there(
    fake: FakeHub, cache: Path, name: str
) -> None:
    fake.damaged[name] = 10**6
    refused(f"the download of {name} failed .it arrived damaged: checksum [0-9a-f]+, not")
    assert not part_of(cache, name).exists()
    assert not list(cache.rglob("snapshots"))
    fake.damaged.clear()
    comes_right()


@pytest.mark.parametrize("size", [1, 70_000, len(FILES[WEIGHTS]), len(FILES[WEIGHTS]) + 5])
def test_what_an_earlier_run_left_is_not_trusted(fake: FakeHub, cache: Path, size: int) -> None:
    blobs(cache).mkdir(parents=True)
    part_of(cache).write_bytes(bytes(size))
    comes_right()


def test_what_killed_processes_left_goes(fake: FakeHub, cache: Path) -> None:
    sum_ = etag(WEIGHTS, FILES[WEIGHTS])
    blobs(cache).mkdir(parents=True)
    left = {
        name: blobs(cache) / name
        for name in (f"{sum_}.0a1b2c3d.incomplete", "b" * 64 + ".incomplete", "a.1.incomplete")
    }
    for path in left.values():
        path.write_bytes(b"part")
    os.utime(left["b" * 64 + ".incomplete"], (0, 0))  # of another revision, long ago
    comes_right()
    assert [path.name for path in blobs(cache).glob("*.incomplete")] == ["a.1.incomplete"]


def test_the_bytes_that_came_are_counted(fake: FakeHub) -> None:
    fake.cuts[WEIGHTS] = [1000]
    assert hub.download(REPO, "main", None).fetched == sum(map(len, FILES.values()))


# --- statuses and redirects


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_error_that_passes_is_waited_for(fake: FakeHub, status: int) -> None:
    fake.statuses = [status] * (transfer.MAX_FUTILE_TRIES - 1)
    comes_right()


@pytest.mark.parametrize(
    ("status", "code", "says", "asked"),
    [
        (401, "", r"refuses access \(401\)", 1),
        (403, "GatedRepo", "gated.*hf auth login", 1),
        (403, "", r"refuses access \(403\)", 1),
        (404, "", "the Hub lists config.json but", 1),
        (404, "EntryNotFound", "the Hub lists config.json but", 1),
        (429, "", "limits requests", transfer.MAX_FUTILE_TRIES),
        (500, "", r"an error \(500\)", transfer.MAX_FUTILE_TRIES),
    ],
)
def test_an_error_with_a_file_is_explained(
    fake: FakeHub, status: int, code: str, says: str, asked: int
) -> None:
    fake.file_status, fake.error_code = status, code
    refused(says)
    assert len(fake.content()) == asked
    fake.file_status = None
    comes_right()


def test_a_short_wait_that_the_hub_asks_for_is_kept(fake: FakeHub) -> None:
    fake.statuses, fake.retry_after = [429], "1"
    begun = time.monotonic()
    comes_right()
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize("asked", ["31", "999999"])
def test_a_long_wait_is_told_instead(fake: FakeHub, asked: str) -> None:
    fake.statuses, fake.retry_after = [429], asked
    assert f"Wait {asked} s" in refused("limits requests").hint
    comes_right()


@pytest.mark.parametrize("asked", ["soon", "-1", "9" * 5000, "Wed, 21 Oct 2065 07:28:00 GMT"])
def test_a_wait_that_is_no_number_is_ours_to_choose(fake: FakeHub, asked: str) -> None:
    fake.statuses, fake.retry_after = [429], asked
    comes_right()


def test_the_token_stays_with_the_hub_on_a_redirect_there(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fake.redirect = "relative"
    comes_right()
    assert {token for _, token in fake.tokens} == {"Bearer hf_secret"}
    assert any(path.startswith("/moved/") for path, _ in fake.tokens)


def test_the_token_does_not_go_to_another_host(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fake.cuts[WEIGHTS] = []
    with FakeHub(REPO, dict(FILES)) as cdn:
        fake.redirect = cdn.url
        cdn.cuts[WEIGHTS] = [1000]
        comes_right()
    assert {token for _, token in fake.tokens} == {"Bearer hf_secret"}
    assert {token for _, token in cdn.tokens} == {""}
    assert cdn.fetched() == set(FILES)
    assert "bytes=1000-" in ranges(cdn)


def test_a_redirect_without_end_is_given_up(fake: FakeHub) -> None:
    fake.redirect = f"{fake.url}/someone/model/resolve/main/config.json#"
    refused("the download of config.json failed")


# --- the disk


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, WriteFailed),
        (errno.EDQUOT, WriteFailed),
        (errno.EIO, WriteFailed),
        (errno.EACCES, CannotCreate),
        (errno.EROFS, CannotCreate),
    ],
)
def test_failure_of_the_disk_has_its_own_error(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[GptcliError]
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        refused(os.strerror(number).lower(), expected)
    comes_right()


def test_a_cache_that_cannot_be_made_is_73(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    refused("not a directory", CannotCreate)


def test_too_little_room_is_told_before_anything_is_fetched(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    usage = shutil.disk_usage(cache.parent)
    size = sum(map(len, FILES.values()))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - 100_000))
        error = refused("it takes 205 kB more on the disk, and 105 kB are free", WriteFailed)
    assert "Make room for 100 kB" in error.hint
    assert fake.fetched() == set()
    assert not cache.exists()


def test_what_has_come_already_needs_no_room(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    blobs(cache).mkdir(parents=True)
    part_of(cache).write_bytes(FILES[WEIGHTS][:-10])
    usage = shutil.disk_usage(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    comes_right()
