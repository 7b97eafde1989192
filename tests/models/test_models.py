"""`gptcli models list`, `info` and `path`, on caches with whatever can be in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cached_models import COMMIT, OTHER, files_of, own_cache, put
from support.commands import REAL, Terminal, environment, run

from gptcli import native
from gptcli.checkpoints import int8_store
from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.int8_store import StoredTensor
from gptcli.checkpoints.preflight import inspect
from gptcli.engines.gpt2.on_cpu.cache import CPUCache
from gptcli.engines.gpt2.on_cpu.int8_weights import int8_matrices
from gptcli.engines.gpt2.on_cpu.packing import Packer, StoredTensors
from gptcli.models.card import front_matter
from gptcli.models.parts import memory, parameters

Cli = Callable[..., tuple[int, str, str]]
BERT = b'{"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 9}'
QUICK = """
import json, sys
try:
    from gptcli.cli.main import main; main({args})
except SystemExit as leaving:
    code = leaving.code
heavy = ("torch", "transformers", "tokenizers", "huggingface_hub", "numpy", "rich", "jinja2")
print(json.dumps([code, [name for name in heavy if name in sys.modules]]))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_cache(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def files(tiny: Path) -> dict[str, bytes]:
    """A tiny model's files by name."""
    return files_of(tiny)


def listed(main_in: Cli) -> dict[str, dict[str, object]]:
    """What `models list --json` says, by name; the last of several of a name."""
    code, out, _ = main_in("models", "--json")
    assert code == 0
    return {entry["name"]: entry for entry in json.loads(out)}


# --- list


def test_the_bundled_model_is_listed_without_a_cache(main_in: Cli) -> None:
    code, out, err = main_in("models")
    assert code == 0
    assert out.split()[:1] == ["tiny-tales"]
    assert out.endswith("bundled  complete\n")
    assert "the cache is" in err
    assert main_in("models", "list", "-q") == (0, out, "")


def test_a_cached_model_is_a_line(cache: Path, files: dict[str, bytes], main_in: Cli) -> None:
    snapshot = put(cache, "someone/model", files)
    entry = listed(main_in)["someone/model"]
    assert entry == {
        "name": "someone/model",
        "kind": "cached",
        "revision": COMMIT,
        "refs": ["main"],
        "bytes": sum(map(len, files.values())),
        "used": entry["used"],
        "architecture": "gpt2",
        "context": 64,
        "state": "complete",
        "fault": None,
        "missing": [],
        "path": str(snapshot),
    }
    assert str(entry["used"]).endswith("+00:00")
    out = main_in("models", "list")[1]
    line = out.splitlines()[0].split()
    assert line[0] == "someone/model"
    assert line[3] == COMMIT[:7]
    assert line[-4:] == ["gpt2", "64", "cached", "complete"]
    assert "\t" not in out


def test_every_revision_is_a_line_and_the_main_one_comes_first(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", files, OTHER)
    put(cache, "someone/model", files, COMMIT, ref="v1")
    entries = json.loads(main_in("models", "--json")[1])
    shown = [(entry["revision"], entry["refs"]) for entry in entries if entry["revision"]]
    assert shown == [(OTHER, ["main"]), (COMMIT, ["v1"])]


def test_int8_weights_are_listed_beside_their_model(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", files)
    put(cache, "someone/other", files)
    int8_store.keep("0" * 40, "someone/model", {"a": StoredTensor("I8", (3,), b"abc")})
    lines = [line.split() for line in main_in("models")[1].splitlines()]
    assert [(line[0], line[-2]) for line in lines] == [
        ("someone/model", "cached"),
        ("someone/model", "int8"),
        ("someone/other", "cached"),
        ("tiny-tales", "bundled"),
    ]


@pytest.mark.parametrize(
    ("changes", "state", "fault"),
    [
        ({"config.json": b"{"}, "broken", "not JSON"),
        ({"config.json": b"[" * 10**5}, "broken", "nested"),
        ({"config.json": b'{"model_type": 3}'}, "broken", "does not name an architecture"),
        ({"config.json": BERT}, "other", "BertForMaskedLM"),
        ({"config.json": None}, "incomplete", "no config.json"),
        ({"tokenizer.json": None}, "incomplete", "no tokenizer.json"),
        ({"model.safetensors": None}, "incomplete", "no model.safetensors"),
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "incomplete", "models convert"),
    ],
)
def test_what_is_wrong_with_a_model_stands_in_its_line(
    cache: Path,
    files: dict[str, bytes],
    main_in: Cli,
    changes: dict[str, bytes | None],
    state: str,
    fault: str,
) -> None:
    changed = {name: data for name, data in (files | changes).items() if data is not None}
    put(cache, "someone/model", changed)
    put(cache, "someone/other", files)
    found = listed(main_in)
    assert found["someone/model"]["state"] == state
    assert fault in str(found["someone/model"]["fault"])
    assert found["someone/other"]["state"] == "complete"


def test_files_that_are_missing_are_named(cache: Path, files: dict[str, bytes], main_in) -> None:
    put(cache, "someone/model", {"config.json": files["config.json"]})
    assert listed(main_in)["someone/model"]["missing"] == ["tokenizer.json", "model.safetensors"]


def test_a_broken_link_is_named(cache: Path, files: dict[str, bytes], main_in: Cli) -> None:
    snapshot = put(cache, "someone/model", files)
    (snapshot / "model.safetensors").resolve().unlink()
    entry = listed(main_in)["someone/model"]
    assert entry["state"] == "broken"
    assert entry["fault"] == "model.safetensors: a link that leads nowhere"
    assert entry["missing"] == ["model.safetensors"]


def test_folders_that_are_no_models_do_not_break_the_list(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", files)
    put(cache, "someone/odd", files)
    (cache / "models--someone--odd" / "refs" / "gone").write_text("f" * 40)
    (cache / "models--someone--odd" / "refs" / "odd").write_bytes(b"\xff" * 5000)
    os.mkfifo(cache / "models--someone--odd" / "refs" / "pipe")
    (cache / "models--a--empty").mkdir()
    (cache / "models--a--file").write_text("x")
    (cache / "models--a--loop").symlink_to("models--a--loop")
    (cache / "models--a--begun" / "blobs").mkdir(parents=True)
    (cache / "models--a--begun" / "blobs" / "x.incomplete").write_bytes(b"x" * 10)
    (cache / "models--a--odd" / "snapshots" / "not a commit").mkdir(parents=True)
    for name in ("datasets--a--b", "datasets--a--c", "spaces--a--b", ".locks", "anything"):
        (cache / name).mkdir()
    found = listed(main_in)
    broken = {name for name, entry in found.items() if entry["state"] == "broken"}
    assert broken == {"a/empty", "a/file", "a/loop", "a/odd"}
    assert found["a/begun"]["state"] == "incomplete"
    assert "unfinished download" in str(found["a/begun"]["fault"])
    assert found["someone/odd"]["state"] == "complete"
    assert "refs/" in str(found["someone/odd"]["fault"])
    err = main_in("models")[2]
    assert "2 datasets" in err
    assert "1 space " in err


def test_a_pipe_in_place_of_a_file_does_not_hold_the_list_up(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    snapshot = put(cache, "someone/model", files)
    (snapshot / "config.json").unlink()
    os.mkfifo(snapshot / "config.json")
    assert listed(main_in)["someone/model"]["state"] == "broken"


def test_a_hostile_name_reaches_no_terminal(cache: Path, files: dict[str, bytes], main_in) -> None:
    put(cache, "some\x1b[31m/mod\u202eel", files)
    out = main_in("models")[1]
    assert "some^[[31m/mod\\u202eel" in out
    assert "some\x1b[31m/mod\u202eel" in listed(main_in)


def test_on_a_terminal_the_list_has_a_heading_and_fits(
    cache: Path, files: dict[str, bytes]
) -> None:
    put(cache, "someone/" + "model" * 20, files)
    put(cache, "someone/other", files | {"config.json": b"[" * 10})
    terminal = Terminal(REAL, "models", "-q", COLUMNS="100")
    assert terminal.finish() == 0
    lines = terminal.output.decode().splitlines()
    assert lines[0].split()[:2] == ["model", "size"]
    assert len(lines) == 4
    assert max(map(len, lines)) <= 100
    assert "…" in lines[1]


def test_a_list_of_thirty_models_imports_nothing_heavy(cache: Path, tiny: Path) -> None:
    small = files_of(tiny) | {"model.safetensors": b"x"}
    for number in range(30):
        put(cache, f"someone/model-{number}", small)
    done = run(REAL[:1], "-c", QUICK.format(args=["models", "list"]))
    *lines, last = done.stdout.decode().splitlines()
    assert len(lines) == 31
    assert json.loads(last) == [0, []]


# --- info


def about(main_in: Cli, name: str, *more: str) -> dict[str, object]:
    code, out, _ = main_in("models", "info", name, "--json", *more)
    assert code == 0
    known: dict[str, object] = json.loads(out)
    return known


def test_a_models_numbers_are_told(cache: Path, files: dict[str, bytes], main_in: Cli) -> None:
    put(cache, "someone/model", files)
    known = about(main_in, "someone/model")
    assert known["parameters"] == {
        "total": 43904,
        "token_embedding": 512 * 32,
        "position_embedding": 64 * 32,
        "attention": 2 * (32 * 96 + 96 + 32 * 32 + 32),
        "mlp": 2 * (32 * 128 + 128 + 128 * 32 + 32),
        "norms": 5 * 64,
        "head": 0,
    }
    assert (known["layers"], known["width"], known["heads"], known["context"]) == (2, 32, 4, 64)
    assert (known["head_tied"], known["dtypes"], known["passes"]) == (True, ["F32"], True)
    assert {file["name"] for file in known["files"]} == files.keys()  # type: ignore[attr-defined]
    assert known["bytes"] == sum(map(len, files.values()))


def test_the_kind_of_the_tokenizer_is_told(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    files = {name: data for name, data in files.items() if name != "tokenizer.json"}
    files["vocab.txt"] = b"[UNK]\n[CLS]\n[SEP]\na\n"
    files["tokenizer_config.json"] = b'{"tokenizer_class": "BertTokenizer"}'
    put(cache, "someone/model", files)
    known = about(main_in, "someone/model")
    kind, name = "WordPiece (BertTokenizer)", "BertTokenizer"
    expected = {"kind": kind, "class": name, "files": ["vocab.txt"], "error": None}
    assert (known["tokenizer"], known["missing"], known["passes"]) == (expected, [], True)
    assert f"tokenizer                 {kind}\n" in main_in("models", "info", "someone/model")[1]


def test_a_tokenizer_that_cannot_be_had_is_told(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    files = {name: data for name, data in files.items() if name != "tokenizer.json"}
    files["vocab.txt"] = b"[UNK]\na\n"
    files["tokenizer_config.json"] = b'{"tokenizer_class": "BertJapaneseTokenizer"}'
    put(cache, "someone/model", files)
    known = about(main_in, "someone/model")
    assert not known["passes"]
    assert "BertJapaneseTokenizer" in str(known["error"])
    code, _, err = main_in("generate", "a", "-m", "someone/model")
    assert code == 65
    assert "BertJapaneseTokenizer" in err


@pytest.mark.skipif(native.library() is None, reason="no compiled kernels here")
@pytest.mark.parametrize("tied", [True, False])
def test_the_memory_of_int8_is_what_its_tensors_take(make_tiny, tied: bool) -> None:
    manifest = inspect(make_tiny(tie_word_embeddings=tied))
    library = native.library()
    assert manifest.gpt2 is not None
    assert library is not None
    with StoredTensors(library, manifest).opened() as source:
        made, _ = int8_matrices("someone/model", manifest, Packer(library, source, 1))
    reduced_bytes = sum(one.blocks.nbytes + one.scale.nbytes for one in made.values())
    rest = [tensor for name, tensor in manifest.tensors.items() if name not in made]
    assert memory(manifest.gpt2).int8 == reduced_bytes + sum(tensor.nbytes for tensor in rest)


def test_the_kv_cache_of_a_token_is_what_the_engine_takes() -> None:
    import torch

    from gptcli.engines.gpt2.on_torch.kv_cache import KVCache

    config = GPT2Config(vocab_size=10, n_positions=48, n_embd=128, n_layer=3, n_head=2)
    in_torch = KVCache(config, 1, torch.device("cpu"), torch.float32)
    ours = CPUCache(config, 1)
    assert memory(config).token_float32 * 48 == in_torch.kv.nbytes
    assert memory(config).token_float32 * 48 == ours.keys.nbytes + ours.values.nbytes


def test_parts_add_up_to_the_parameters_of_gpt2() -> None:
    assert parameters(GPT2Config()).total == GPT2Config().parameters == 124439808


@pytest.mark.parametrize("name", ["tiny-tales", "gpt2", "someone/model", "folder"])
def test_any_name_of_a_model_will_do(
    cache: Path, files: dict[str, bytes], tiny: Path, main_in: Cli, name: str
) -> None:
    for repo_id in ("openai-community/gpt2", "someone/model"):
        put(cache, repo_id, files)
    known = about(main_in, str(tiny) if name == "folder" else name)
    assert known["passes"]
    assert known["source"] == {"tiny-tales": "bundled", "folder": "path"}.get(name, "cache")


def test_a_broken_model_shows_what_can_be_read_of_it(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", files | {"model.safetensors": files["model.safetensors"][:-1]})
    known = about(main_in, "someone/model")
    assert not known["passes"]
    assert "cut off" in str(known["error"])
    assert known["architecture"] == "gpt2"
    code, out, _ = main_in("models", "info", "someone/model")
    assert code == 0
    assert "cut off" in out


def test_an_incomplete_model_says_what_it_lacks(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", {k: v for k, v in files.items() if k != "tokenizer.json"})
    known = about(main_in, "someone/model")
    assert (known["passes"], known["missing"]) == (False, ["tokenizer.json"])


@pytest.mark.parametrize(
    ("more", "name", "kind", "file"),
    [
        ({}, "someone/model", "transcript", None),
        ({}, "someone/DialoGPT", "eos", None),
        (
            {"chat_template.jinja": b"{{ messages[0].content }}"},
            "a/b",
            "own",
            "chat_template.jinja",
        ),
        ({"chat_template.jinja": b"{{"}, "someone/model", "own", None),
    ],
)
def test_the_chat_template_is_told(
    cache: Path,
    files: dict[str, bytes],
    main_in: Cli,
    more: dict[str, bytes],
    name: str,
    kind: str,
    file: str | None,
) -> None:
    put(cache, name, files | more)
    template = about(main_in, name)["chat_template"]
    assert (template["kind"], template["file"]) == (kind, file)  # type: ignore[index]
    assert bool(template["error"]) == (more.get("chat_template.jinja") == b"{{")  # type: ignore[index]


def test_the_license_comes_from_the_card(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/bare", files)
    put(cache, "someone/model", files | {"README.md": b"---\nlicense: mit\n---\n# Model\n"})
    assert about(main_in, "someone/model")["card"] == {"license": "mit"}
    assert about(main_in, "someone/bare")["card"] is None
    assert "license  " in main_in("models", "info", "someone/model")[1]
    assert "the model card is not there" in main_in("models", "info", "someone/bare")[1]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", {}),
        ("# Title\n---\nlicense: mit\n---\n", {}),
        ("---\nlicense: mit\n", {}),
        ("---\nlicense: mit\n---", {"license": "mit"}),
        ("---\r\nlicense: 'mit' \r\n---\r\n", {"license": "mit"}),
        ("---\nlicense: mit # of 2019\nother: x\n---", {"license": "mit"}),
        (
            "---\nlanguage:\n- en\n  - fr\ntags: [a, 'b']\n---",
            {"language": ["en", "fr"], "tags": ["a", "b"]},
        ),
        ("---\nlanguage:\n- en\nmodel-index:\n- name: x\n- y\n---", {"language": ["en"]}),
        ("---\nlicense: &a mit\ntags: *a\nlanguage: {a: b}\n---", {}),
        ("---\nlicense: |\n  long\n---", {}),
    ],
)
def test_front_matter_gives_what_is_plain_in_it(text: str, facts: dict[str, object]) -> None:
    assert front_matter(text) == facts


def test_info_needs_no_torch(cache: Path, files: dict[str, bytes]) -> None:
    put(cache, "someone/model", files)
    done = run(REAL[:1], "-c", QUICK.format(args=["models", "info", "someone/model"]))
    code, heavy = json.loads(done.stdout.splitlines()[-1])
    assert (code, set(heavy) & {"torch", "transformers", "numpy"}) == (0, set())


def test_a_folder_of_ones_own_is_not_searched_below(tiny: Path, tmp_path: Path, main_in) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    (model / "below").mkdir()
    (model / "below" / "file").write_text("x")
    names = {file["name"] for file in about(main_in, str(model))["files"]}  # type: ignore[attr-defined]
    assert names == {file.name for file in tiny.iterdir()}


# --- path


def test_the_folder_of_a_model_is_printed(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    snapshot = put(cache, "someone/model", files)
    old = put(cache, "someone/model", files, OTHER, ref="v1")
    assert main_in("models", "path", "someone/model") == (0, f"{snapshot}\n", "")
    for revision in ("v1", OTHER, OTHER[:7]):
        out = main_in("models", "path", "someone/model", "--revision", revision)
        assert out == (0, f"{old}\n", "")


@pytest.mark.parametrize("name", ["someone/none", "gpt2", "someone/partial"])
def test_a_model_that_is_not_whole_here_has_no_path(
    cache: Path, files: dict[str, bytes], main_in: Cli, name: str
) -> None:
    put(cache, "someone/partial", {"config.json": files["config.json"]})
    code, out, err = main_in("models", "path", name)
    assert (code, out) == (69, "")
    assert "gptcli models pull" in err


def test_a_mistyped_name_of_the_cache_is_corrected(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", files)
    code, _, err = main_in("models", "path", "someone/modle")
    assert code == 69
    assert "Did you mean someone/model?" in err


def test_a_full_disk_is_told(cache: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*REAL, "models"], stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert done.returncode == 74
