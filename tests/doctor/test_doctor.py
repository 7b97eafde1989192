"""`gptcli doctor`: what it finds on sound and on broken installations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import REAL, Terminal, run
from support.fake_hub import FakeHub

from gptcli import native
from gptcli.checkpoints.names import GPT2

Cli = Callable[..., tuple[int, str, str]]
QUICK = ("doctor", "--quick", "--json")


@pytest.fixture
def examined(main_in: Cli):
    """A function that runs the doctor and gives its findings, in their order."""

    def examined(*args: str) -> list[dict[str, Any]]:
        code, out, err = main_in(*QUICK, *args)
        assert err == ""
        found = json.loads(out)
        wrong = [item for item in found["findings"] if item["level"] == "problem"]
        assert (code, found["problems"]) == (int(bool(wrong)), len(wrong))
        for item in found["findings"]:
            assert list(item) == ["area", "what", "value", "level", "fix"]
            assert item["level"] == "ok" or item["fix"], item
        return found["findings"]  # type: ignore[no-any-return]

    return examined


def problems(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(item["area"], item["what"]) for item in found if item["level"] == "problem"}


def one(found: list[dict[str, Any]], area: str, what: str) -> dict[str, Any]:
    """The only finding of that name."""
    [item] = [item for item in found if (item["area"], item["what"]) == (area, what)]
    return item


def test_a_sound_installation_has_no_problem(examined) -> None:
    found = examined("--offline")
    assert problems(found) == set()
    assert one(found, "hub", "network")["value"] == "not used, as it was asked for"
    areas = {item["area"] for item in found}
    assert areas == {"versions", "machine", "models", "hub", "settings", "terminal"}


def test_it_tells_whose_kernels_run(examined, monkeypatch: pytest.MonkeyPatch) -> None:
    here = native.library()
    own = one(examined("--offline"), "machine", "kernels")
    assert here is None or own["value"] == f"gptcli's own, for {here.kind}"
    monkeypatch.setattr(native, "library", lambda: None)
    torchs = one(examined("--offline"), "machine", "kernels")
    assert torchs["value"].startswith("torch's")
    supported = sys.platform in ("linux", "darwin")
    assert ("C compiler" in torchs["fix"]) == supported


def test_it_measures_unless_it_is_to_be_quick(main_in: Cli) -> None:
    code, out, _ = main_in("doctor", "--offline", "--json")
    assert code == 0
    found = {item["what"]: item for item in json.loads(out)["findings"] if item["area"] == "speed"}
    assert found["tiny-tales"]["value"].endswith(" tokens/s")
    assert " GB/s, at most " in found["memory"]["value"]


def test_the_report_is_for_people_and_quiet_keeps_problems(
    main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_TOP_Q", "1")
    code, out, err = main_in("doctor", "--quick", "--offline")
    assert (code, err) == (1, "")
    assert "! GPTCLI_TOP_Q: there is no such option\n    Did you mean GPTCLI_TOP_P?\n" in out
    assert out.startswith("versions\n  gptcli: ")
    assert out.endswith("\n1 problem, marked !\n")
    code, out, _ = main_in("doctor", "--quick", "--offline", "-q")
    assert out.split("\n")[0] == "settings"


def test_a_hub_that_answers_and_one_that_does_not(
    examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    assert problems(examined()) == {("hub", "network")}
    with FakeHub(GPT2, {"config.json": b"{}"}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert one(examined(), "hub", "network")["value"] == "127.0.0.1 answers"
        hub.status = 500
        wrong = one(examined(), "hub", "network")
        assert (wrong["level"], "(500)" in wrong["value"]) == ("problem", True)


def test_a_token_is_never_shown(examined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_swordfish")
    monkeypatch.setenv("GPTCLI_API_KEY", "sk-swordfish")
    found = examined()
    assert one(found, "hub", "token")["value"] == "there is one"
    assert "swordfish" not in json.dumps(found)


def test_settings_are_all_looked_at(
    examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_TOP_K", "many")
    monkeypatch.setenv("GPTCLI_TOP_P", "0.5")
    file = tmp_path / "c.toml"
    file.write_text("seed = 1\n[chat]\nx = 1\n[batch]\nworkers = 0\n[aliases]\nxl = 'a/b'\n")
    config = ("--offline", "--config", str(file))
    found = [item["value"] for item in examined(*config) if item["level"] == "problem"]
    assert [value.partition(": ")[0] for value in found] == [
        *(f"{file}:{line}" for line in (3, 5, 7)),
        "top_k",
    ]


@pytest.mark.parametrize("text", ["1", "true", "Yes", "on"])
def test_what_a_run_takes_for_a_switch_is_right(
    examined, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("GPTCLI_OFFLINE", text)
    monkeypatch.setenv("GPTCLI_STREAM", text)
    monkeypatch.setenv("GPTCLI_SEED", "")
    found = examined()
    assert problems(found) == set()
    assert one(found, "hub", "network")["value"] == "not used, as it was asked for"


def test_what_a_run_takes_for_no_switch_is_a_problem(
    examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_STREAM", "maybe")
    assert problems(examined("--offline")) == {("settings", "GPTCLI_STREAM")}


def test_a_configuration_that_is_not_there_is_a_problem(examined, tmp_path: Path) -> None:
    found = examined("--offline", "--config", str(tmp_path / "none.toml"))
    assert problems(found) == {("settings", "config.toml")}


def test_the_cache_is_looked_at(examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    model = hub / "models--a--b"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    (model / "blobs").mkdir()
    (model / "blobs" / "x.incomplete").write_bytes(b"1" * 10**6)
    (snapshot / "config.json").write_text('{"model_type": "gpt2"}')
    (snapshot / "model.safetensors").symlink_to("../../blobs/gone")
    found = examined("--offline")
    levels = [item["level"] for item in found if item["what"] == "a/b"]
    assert levels == ["problem", "note"]
    assert problems(found) == {("models", "a/b")}


@pytest.mark.parametrize("fault", ["raise ImportError('no such library')", "import os; 1 / 0"])
def test_a_torch_that_does_not_load_is_a_problem_like_others(tmp_path: Path, fault: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(fault)
    root = str(Path(__file__).parent.parent.parent)
    done = run(REAL, *QUICK[:2], "--offline", PYTHONPATH=f"{tmp_path}:{root}")
    assert done.returncode == 1
    assert done.stderr == b""
    assert b"! torch: it does not load" in done.stdout or b"! this check: it failed" in done.stdout
    assert b"terminal\n" in done.stdout


def test_missing_libraries_are_named(main_in: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    real = metadata.version

    def version(name: str) -> str:
        if name == "transformers":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "tokenizers" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    _, out, _ = main_in("doctor", "--quick", "--offline")
    assert "! transformers: it is not installed\n    Run: pip install 'transformers>=5.0'" in out
    assert "! tokenizers: 0.1, and >=0.21 is needed" in out


def test_it_works_in_a_bare_environment(tmp_path: Path) -> None:
    bare = {"LC_ALL": "C", "TERM": "", "HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    done = run(REAL, *QUICK, "--offline", **bare)
    assert (done.returncode, done.stderr) == (0, b"")


def test_hostile_names_are_shown_harmless(main_in: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTCLI_\x1b[2J", "1")
    _, out, _ = main_in("doctor", "--quick", "--offline")
    assert "\x1b" not in out
    assert "GPTCLI_^[[2J" in out


def test_on_a_terminal_it_leaves_the_report_alone() -> None:
    terminal = Terminal(REAL, "doctor", "--quick", "--offline", TERM="xterm")
    terminal.read_until(b"nothing is wrong", 60)
    assert terminal.finish() == 0
    assert b"streams: input: terminal, output: terminal, errors: terminal" in terminal.output


def test_its_help_loads_nothing_heavy() -> None:
    code = """if True:
        import sys
        from gptcli.cli.main import main
        try:
            main(["doctor", "--help"])
        except SystemExit:
            heavy = {"torch", "transformers", "tokenizers", "huggingface_hub", "numpy"}
            print(heavy & set(sys.modules))
    """
    import sys

    assert run([sys.executable, "-c", code]).stdout.endswith(b"set()\n")
