"""What a stranger's file makes of the user's key and token: nothing that the user did not name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.commands import TALES
from support.fake_hub import COMMIT, FakeHub, point_at
from support.fake_server import FakeServer

from gptcli.batch.output.manifest import read_manifest

Cli = Callable[..., tuple[int, str, str]]
KEY, TOKEN = "my-own-key", "hf_my_own_token"
HEAD = {
    "gptcli_record": 1,
    "command": "generate",
    "model": "gpt2",
    "revision": None,
    "dtype": "unknown dtype",
    "device": "cpu",
    "threads": None,
    "slots": 1,
    "beams": False,
    "versions": {},
}
ENTRY = {
    "id": "0",
    "prompt": "Once",
    "prompt_sha256": "",
    "sampling": {"seed": 1, "max_new_tokens": 3},
    "on_overflow": "error",
    "choices": None,
    "answers": [{"text": "x", "sha256": "", "finish_reason": "length", "tokens": 1}],
}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTCLI_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as there:
        yield there


@pytest.fixture
def strangers(tmp_path: Path) -> Callable[..., str]:
    """Writes a record with these options of how the model was opened; gives its name."""

    def write(entry: dict[str, object] | None = None, **options: object) -> str:
        path = tmp_path / "record.jsonl"
        lines = [HEAD | {"options": options}, ENTRY | (entry or {})]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    return write


def asked(server: FakeServer) -> bool:
    """Whether anything came to the server; then always with the key."""
    for headers in server.headers:
        assert f"Bearer {KEY}" in headers.values()
    return bool(server.headers)


def test_a_server_that_only_the_record_names_is_not_asked(
    server: FakeServer, strangers: Callable[..., str], main_in: Cli
) -> None:
    server.models_answer = lambda *_: pytest.fail("it was asked for its models")
    code, out, err = main_in("replay", strangers(server=server.url))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"it names the server {server.url}, and you do not" in err
    assert f"--server {server.url}" in err
    assert "--trust-record" in err
    assert not asked(server)


def test_a_prompt_for_a_hash_is_not_even_read_for_it(
    server: FakeServer, strangers: Callable[..., str], main_in: Cli
) -> None:
    entry = {"prompt": None, "prompt_sha256": "0" * 64}
    code, _, err = main_in("replay", strangers(entry, server=server.url), "My secret")
    assert (code, "you do not" in err) == (2, True)
    assert not asked(server)


@pytest.mark.parametrize("extra", [("-m", "gpt2"), ("--offline",), ("--allow-changed-model",)])
def test_other_flags_are_no_trust(
    server: FakeServer, strangers: Callable[..., str], main_in: Cli, extra: tuple[str, ...]
) -> None:
    assert main_in("replay", strangers(server=server.url), *extra)[0] == 2
    assert not asked(server)


def test_another_server_of_the_users_is_no_trust(
    server: FakeServer,
    strangers: Callable[..., str],
    main_in: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near = [
        server.url.replace("127.0.0.1", "localhost"),
        server.url.replace("http:", "https:"),
        f"{server.url}/more",
        server.host,
        "http://127.0.0.1:9/v1",
    ]
    for other in near:
        monkeypatch.setenv("GPTCLI_SERVER", other)
        assert main_in("replay", strangers(server=server.url))[0] == 2, other
    assert not asked(server)


def flag(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return ("--server", server)


def trust(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    return ("--trust-record",)


def variable(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv("GPTCLI_SERVER", f"{server}/")
    return ()


def configuration(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    file = folder / "mine.toml"
    file.write_text(f'[batch]\nserver = "{server}"\n')
    return ("--config", str(file))


@pytest.mark.parametrize("way", [flag, trust, variable, configuration])
def test_a_server_that_the_user_names_is_asked_with_the_key(
    server: FakeServer,
    strangers: Callable[..., str],
    main_in: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[..., tuple[str, ...]],
) -> None:
    extra = way(server.url, tmp_path, monkeypatch)
    code, out, err = main_in("replay", strangers(server=server.url), *extra)
    assert (code, out.startswith("0  differs")) == (3, True), err
    assert asked(server)


def test_a_flag_names_another_server_than_the_record(
    server: FakeServer, strangers: Callable[..., str], main_in: Cli
) -> None:
    record = strangers(server="http://127.0.0.1:9/v1")
    assert main_in("replay", record, "--server", server.url)[0] == 3
    assert asked(server)


def test_a_variable_moves_no_record_to_a_server(
    server: FakeServer, tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = str(tmp_path / "record.jsonl")
    assert main_in("generate", "Once", *TALES, "--max-new-tokens", "3", "--record", record)[0] == 0
    monkeypatch.setenv("GPTCLI_SERVER", server.url)
    code, out, err = main_in("replay", record)
    assert (code, "identical" in out) == (0, True), err
    assert not asked(server)


@pytest.fixture
def model_hub(make_tiny, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with a model of someone's; the cache is empty."""
    folder = make_tiny()
    with FakeHub("stranger/model", {p.name: p.read_bytes() for p in folder.iterdir()}) as hub:
        point_at(hub.url, monkeypatch)
        yield hub


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def told(hub: FakeHub) -> set[str]:
    """What the Hub was told of who asks."""
    assert hub.tokens
    return {token for _, token in hub.tokens}


@pytest.mark.parametrize(
    "options",
    [{"model": "stranger/model"}, {"model": "stranger/model", "revision": COMMIT}],
    ids=["main", "a commit"],
)
def test_a_model_that_only_the_record_names_is_fetched_without_the_token(
    model_hub: FakeHub, strangers: Callable[..., str], main_in: Cli, options: dict[str, object]
) -> None:
    code, _, err = main_in("replay", strangers(**options), "--allow-changed-model")
    assert code == 3, err
    assert told(model_hub) == {""}


def test_a_draft_model_that_only_the_record_names_is_fetched_without_the_token(
    model_hub: FakeHub, strangers: Callable[..., str], main_in: Cli, tiny: Path
) -> None:
    record = strangers(model="x/y", draft_model="stranger/model")
    code, _, err = main_in("replay", record, "-m", str(tiny), "--allow-changed-model")
    assert code == 3, err
    assert told(model_hub) == {""}


def test_a_model_that_the_user_names_is_fetched_with_the_token(
    model_hub: FakeHub,
    strangers: Callable[..., str],
    main_in: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[aliases]\nours = "stranger/model"\n')
    ways = {
        ("-m", "stranger/model"): "",
        ("--trust-record",): "",
        ("--config", str(mine)): "",
        ("--config", str(mine), "-m", "ours"): "",
        (): "stranger/model",
    }
    for number, (way, variable) in enumerate(ways.items()):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / f"cache{number}"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / f"cache{number}"))
        if variable:
            monkeypatch.setenv("GPTCLI_MODEL", variable)
        model_hub.tokens.clear()
        record = strangers(model="stranger/model")
        code, _, err = main_in("replay", record, "--allow-changed-model", *way)
        assert code == 3, (way, err)
        assert told(model_hub) == {f"Bearer {TOKEN}"}, way


@pytest.mark.parametrize("status", [401, 403])
def test_a_model_that_needs_the_token_says_how_to_give_it(
    model_hub: FakeHub, strangers: Callable[..., str], main_in: Cli, status: int
) -> None:
    model_hub.status = status
    code, _, err = main_in("replay", strangers(model="stranger/model"))
    assert (code, "name it yourself with -m, or give --trust-record" in err) == (69, True), err
    assert told(model_hub) == {""}


def test_the_token_is_back_when_the_replay_is_over(
    model_hub: FakeHub, strangers: Callable[..., str], main_in: Cli
) -> None:
    main_in("replay", strangers(model="no/such-model"))
    model_hub.tokens.clear()
    assert main_in("models", "pull", "stranger/model", "-q")[0] == 0
    assert told(model_hub) == {f"Bearer {TOKEN}"}


def test_a_folder_has_no_configuration_of_its_own(
    server: FakeServer, tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.toml", "gptcli.toml", ".gptcli.toml", "pyproject.toml", ".env"):
        (tmp_path / name).write_text(f'server = "{server.url}"\nGPTCLI_SERVER={server.url}\n')
    monkeypatch.chdir(tmp_path)
    assert main_in("generate", "Once", *TALES, "--max-new-tokens", "2")[0] == 0
    assert not asked(server)


def test_the_manifest_of_an_output_names_no_server_to_ask(
    server: FakeServer, tmp_path: Path, main_in: Cli
) -> None:
    (tmp_path / "in.txt").write_text("One\nTwo\n")
    args = ("batch", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl"))
    assert main_in(*args, *TALES, "--max-new-tokens", "2")[0] == 0
    place = tmp_path / ".out.jsonl.manifest.json"
    found = json.loads(place.read_text())
    found["model"] = f"gpt2@{server.url}"
    found["settings"]["server"] = server.url
    place.write_text(json.dumps(found))
    assert read_manifest(place) is not None
    assert main_in(*args, *TALES, "--max-new-tokens", "2")[0] == 65
    assert not asked(server)


def test_rows_name_no_server_and_no_model(
    server: FakeServer, model_hub: FakeHub, tmp_path: Path, main_in: Cli
) -> None:
    asks = {"server": server.url, "model": "stranger/model", "draft_model": "stranger/model"}
    rows = [
        {"prompt": "One", **asks},
        {"prompt": "Two", "settings": asks},
        {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"prompt": "Three", "max_tokens": 2, "model": "stranger/model"},
        },
        {
            "custom_id": "b",
            "method": "POST",
            "url": f"{server.url}/completions",
            "body": {"prompt": "Four", "model": "stranger/model", "base_url": server.url},
        },
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = main_in("batch", str(path), *TALES, "--max-new-tokens", "2")
    assert (code, out.count("\n")) == (3, 4), err
    assert not asked(server)
    assert model_hub.tokens == []


def test_a_conversation_names_no_model_to_open(
    server: FakeServer, model_hub: FakeHub, tmp_path: Path, main_in: Cli
) -> None:
    saved = {"version": 1, "model": "stranger/model", "template": "transcript", "system": None}
    path = tmp_path / "talk.json"
    path.write_text(json.dumps({**saved, "turns": []}))
    args = (*TALES, "--max-new-tokens", "2", "--load", str(path))
    assert main_in("chat", *args, stdin=b"Hello\n")[0] == 0
    path.write_text(json.dumps({**saved, "server": server.url, "turns": []}))
    assert main_in("chat", *args, stdin=b"Hello\n")[0] == 65
    assert not asked(server)
    assert model_hub.tokens == []


@pytest.mark.parametrize("key", ["server", "model", "draft_model"])
@pytest.mark.parametrize("table", ["", "[sampling]\n", "[load]\n"])
def test_a_task_names_no_server_and_no_model(
    tmp_path: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch, key: str, table: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "gptcli" / "tasks"
    folder.mkdir(parents=True)
    task = 'version = 1\ndescription = "Say."\nprompt = "{input}"\n'
    (folder / "say.toml").write_text(f'{table}{key} = "http://127.0.0.1:9/v1"\n{task}')
    code, _, err = main_in("run", "say", "Hello", *TALES)
    assert code == 65, err
    assert "say.toml" in err
