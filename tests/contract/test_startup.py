"""What is cheap stays cheap; what is needed is imported once, early, and beside other work."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from support.commands import TALES, environment
from support.fake_engine import FakeEngine

from gptcli.cli import main, registry
from gptcli.cli.output import profile
from gptcli.system import file_pages, stages, torch_import

HEAVY = (
    *("torch", "transformers", "tokenizers", "huggingface_hub", "numpy", "httpx", "pydantic"),
    *("jinja2", "prompt_toolkit", "httpx2", "openai", "pyarrow", "ray"),
    "unicodedata",  # its tables take a tenth of a second
)
PROGRAM = """
import json, sys
code = 0
try:
    {action}
except SystemExit as leaving:
    code = leaving.code
heavy = [name for name in {heavy} if name in sys.modules]
print(json.dumps([code, heavy, "rich" in sys.modules, "typer" in sys.modules]))
"""
# The program itself, as its script starts it; at its end it tells what it had imported.
COLD = """
import json, os, sys
def end(code, leave=os._exit):
    from gptcli.system import torch_import as libtorch, stages
    with open(os.environ["SEEN"], "w") as file:
        json.dump([list(sys.modules), stages.recorded(), list(libtorch._deferred)], file)
    leave(code)
os._exit = end
from gptcli.__main__ import main
main()
"""
MAIN_LINE = [
    *("early imports", "command line's imports", "options", "input", "checkpoint", "preflight"),
    *("rest of torch's libraries", "torch", "weights", "rest of the tokenizer", "first token"),
]
BESIDE = {"torch's libraries", "tokenizer", "weights' pages"}
# What torch registers for the device `meta`, before and after what was put off; without arguments
# torch is imported as it comes.
META = """
import importlib, json, sys
def registered():
    return sorted(torch._C._dispatch_get_registrations_for_dispatch_key("Meta"))
from gptcli.system import torch_import as libtorch
if sys.argv[1:]:
    libtorch.abridge()
with libtorch.importing():
    import torch
before = registered()
import colorsys
still = bool(libtorch._deferred)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([before, still, registered()]))
"""
two_processors = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="on one processor nothing runs beside",
)


def imported(action: str) -> list[object]:
    """Exit code, heavy modules, and whether Rich and Typer were imported by `action`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(action=action, heavy=HEAVY)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        check=True,
    )
    result: list[object] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A cold process that writes one token with --profile-startup, and what was seen of it."""
    seen = tmp_path_factory.mktemp("cold") / "seen.json"
    asked = ("generate", "Once", "--greedy", "--max-new-tokens", "1", "--profile-startup", *TALES)
    done = subprocess.run(
        [sys.executable, "-c", COLD, *asked],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(SEEN=seen),
        check=True,
    )
    modules, recorded, put_off = json.loads(seen.read_text())
    return {
        "packages": {name.partition(".")[0] for name in modules},
        "modules": set(modules),
        "stages": [stages.Stage(*stage) for stage in recorded],
        "put_off": put_off,
        "stdout": done.stdout.decode(),
        "stderr": done.stderr.decode(),
    }


def test_a_dry_run_of_a_task_counts_tokens_without_torch() -> None:
    action = f"from gptcli.cli.main import main; main({['summarize', 'x', '--dry-run', *TALES]!r})"
    code, heavy, *_ = imported(action)
    assert (code, heavy) == (0, ["tokenizers"])


@pytest.fixture
def recording() -> Any:
    """A record that is switched off again."""
    stages.record(True)
    yield
    stages.record(False)


def test_importing_the_package_imports_nothing() -> None:
    assert imported("import gptcli") == [0, [], False, False]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ([], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["generate", "--help"], 0),
        (["generate", "Once", "--top-p", "1.5"], 2),
        (["generate", "--bogus"], 2),
        (["chat", "--help"], 0),
        (["chat", "--top-p", "1.5"], 2),
        (["chat", "-n", "2"], 2),
        (["chat", "--bot-name", ""], 2),
        (["tasks", "--help"], 0),
        (["tasks", "list"], 0),
        (["docs"], 0),
        (["docs", "tasks"], 0),
        (["docs", "nonsense"], 2),
        (["models"], 0),
        (["models", "--help"], 0),
        (["models", "rm", "./folder"], 2),
        (["models", "path", "gpt2-smal"], 69),
        (["generate"], 2),
        (["generate", "-f", "/nowhere"], 66),
        (["generate", "Once", "-o", "/nowhere/a.txt"], 73),
        (["generate", "Once", "-m", "./nowhere"], 66),
    ],
)
def test_no_heavy_import(args: list[str], code: int) -> None:
    assert imported(f"from gptcli.cli.main import main; main({args})")[:2] == [code, []]


@pytest.mark.parametrize(
    "words",
    [
        [""],
        ["generate", "-m", ""],
        ["batch", "-"],
        ["inspect", "lens", "-"],
        ["run", "translate", "--to", ""],
        ["tasks", "show", ""],
        ["cache", "clear", ""],
        ["docs", ""],
    ],
    ids=" ".join,
)
def test_completion_imports_nothing_heavy(words: list[str]) -> None:
    asked = "import os; os.environ['_GPTCLI_COMPLETE'] = 'fish'; from gptcli.cli.main import main"
    assert imported(f"{asked}; main({words})")[:3] == [0, [], False]


def test_errors_do_not_need_rich() -> None:
    action = "from gptcli.cli.main import main; main(['generate', 'Once', '--top-p', '2'])"
    assert imported(action)[2] is False


def test_a_cold_generate_imports_only_what_it_uses(cold: dict[str, Any]) -> None:
    used = {"gptcli", "torch", "tokenizers", "typer", "platformdirs"}
    # What torch and typer bring along, and what Python's own machinery adds.
    brought = {"numpy", "torchgen", "functorch", "typing_extensions", "annotated_doc"}
    own = sys.stdlib_module_names | {"__mp_main__", "sitecustomize", "usercustomize"}
    foreign = {name for name in cold["packages"] - own if not name.startswith("_")}
    assert foreign - used - brought <= {"shellingham", "tqdm", "triton"}
    assert used <= foreign


def test_a_cold_generate_leaves_out_what_only_compilers_use(cold: dict[str, Any]) -> None:
    if torch_import._is_tested_version():
        assert cold["put_off"] == list(torch_import.DEFERRED)
        assert not {"torch._prims", "torch._refs", "torch._dynamo"} & cold["modules"]
    else:  # another version of torch is imported whole
        assert cold["put_off"] == []


def test_the_stages_of_a_cold_generate_follow_each_other(cold: dict[str, Any]) -> None:
    line = [stage for stage in cold["stages"] if not stage.beside]
    assert [stage.name for stage in line] == MAIN_LINE
    assert all(former.end == stage.begin for former, stage in pairwise(line))


@two_processors
def test_the_tokenizer_and_torch_are_loaded_beside_each_other(cold: dict[str, Any]) -> None:
    named = {stage.name: stage for stage in cold["stages"]}
    assert {stage.name for stage in cold["stages"] if stage.beside} <= BESIDE
    assert named["torch's libraries"].begin < named["command line's imports"].end
    assert named["torch's libraries"].end <= named["rest of torch's libraries"].end
    assert named["tokenizer"].begin < named["torch"].end


def test_the_profile_shows_every_stage_on_stderr_alone(cold: dict[str, Any]) -> None:
    shown = [line[: len("rest of torch's libraries")] for line in cold["stderr"].splitlines()]
    line = ["interpreter", *MAIN_LINE, "to the first token"]
    assert [name.strip() for name in shown[1 : len(line) + 1]] == line
    assert cold["stdout"].startswith("Once")
    assert "interpreter" not in cold["stdout"]


def test_the_profile_adds_up(recording: None) -> None:
    for name in ("options", stages.FIRST_TOKEN, "later"):
        stages.mark(name)
    shown = json.loads(profile.as_json())
    assert [stage["stage"] for stage in shown["startup"]] == [
        *("interpreter", "options", stages.FIRST_TOKEN)
    ]
    assert shown["startup"][0]["begin"] == 0
    assert shown["startup"][-1]["end"] == shown["to_the_first_token"]


def test_the_profile_shows_spans_of_threads_apart(recording: None) -> None:
    with stages.beside("tokenizer"):
        stages.mark("options")
    lines = profile.as_table().splitlines()
    assert lines[-2] == "in threads meanwhile"
    assert lines[-1].startswith("tokenizer")
    assert "total" in lines[-3]


def test_nothing_is_recorded_unless_asked_for() -> None:
    stages.mark("options")
    with stages.beside("tokenizer"):
        pass
    assert stages.recorded() == ()


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_the_profile_is_asked_for_by(way: str, main_in, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "variable":
        monkeypatch.setenv("GPTCLI_PROFILE_STARTUP", "1")
    flags = ["--profile-startup"] if way == "flag" else []
    code, out, err = main_in("generate", "Once", "-m", "x", *flags, engine=FakeEngine())
    assert (code, out) == (0, "Once there was\n")
    assert "to the first token" in err


def test_the_profile_is_json_where_the_answer_is(main_in) -> None:
    args = ("generate", "Once", "-m", "x", "--json", "--profile-startup")
    err = main_in(*args, engine=FakeEngine())[2]
    assert "to_the_first_token" in json.loads(err)


def test_a_configuration_file_cannot_ask_for_the_profile(main_in, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("profile_startup = true")
    config = str(tmp_path / "config.toml")
    code, _, err = main_in("generate", "Once", "--config", config, engine=FakeEngine())
    assert code == 65
    assert "GPTCLI_PROFILE_STARTUP" in err


def test_every_command_is_known_to_open_a_model_or_not() -> None:
    others = {"tasks", "models", "config", "doctor", "cache", "bench", "docs"}
    assert {entry.name for entry in registry.COMMANDS if not entry.opens} == others


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["tasks", "list"],
        ["genrate", "Once"],
        ["inspect", "tokens", "Once"],
        ["generate", "-h"],
        ["generate", "--help-all"],
        ["generate", "Once", "--server=http://localhost/v1"],
        ["batch", "a.txt", "--dry-run"],
    ],
)
def test_torch_is_not_preloaded_for(args: list[str]) -> None:
    assert not main._opens_a_model(args)


def test_torch_is_preloaded_for_a_prompt_that_looks_like_a_flag() -> None:
    assert main._opens_a_model(["generate", "--", "--help"])


@two_processors
def test_preloading_does_not_keep_the_command_line_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = Event(), Event()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(torch_import, "_mapping", None)
    monkeypatch.setattr(torch_import, "_map", lambda folder: (begun.set(), go_on.wait()))
    torch_import.preload()
    assert begun.wait(30)
    assert torch_import._mapping is not None
    assert torch_import._mapping.is_alive()
    go_on.set()
    torch_import.wait()
    assert not torch_import._mapping.is_alive()


def test_libraries_that_cannot_be_mapped_are_left_to_the_import(tmp_path: Path) -> None:
    torch_import._map(tmp_path)


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A finder that puts the module `late_part` off; executed, it appends to `sys.late`."""
    for name in ("late_part", "other_part"):
        (tmp_path / f"{name}.py").write_text("import sys\nsys.late.append(__name__)\nvalue = 1\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "late", [], raising=False)
    monkeypatch.setattr(torch_import, "DEFERRED", ("late_part",))
    monkeypatch.syspath_prepend(tmp_path)
    finder = torch_import.Abridgement()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    import late_part  # noqa: F401

    yield finder
    torch_import.complete()
    for name in ("late_part", "other_part"):
        sys.modules.pop(name, None)


def test_a_module_put_off_is_executed_when_a_name_of_it_is_asked_for(late: object) -> None:
    assert sys.late == []  # type: ignore[attr-defined]
    assert sys.modules["late_part"].value == 1
    assert sys.late == ["late_part"]  # type: ignore[attr-defined]


def test_a_module_put_off_looks_as_if_it_were_there(late: object, tmp_path: Path) -> None:
    module = sys.modules["late_part"]
    assert module.__file__ == str(tmp_path / "late_part.py")
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert sys.late == []  # type: ignore[attr-defined]


def test_what_was_put_off_comes_before_an_import_that_may_need_it(
    late: torch_import.Abridgement,
) -> None:
    late.over = True
    import colorsys  # noqa: F401

    assert sys.late == []  # type: ignore[attr-defined]
    import other_part  # noqa: F401

    assert sys.late == ["late_part", "other_part"]  # type: ignore[attr-defined]


def test_torch_is_whole_after_an_import_that_may_need_it() -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", META, *names], stdout=subprocess.PIPE, env=environment()
        )
        for names in ([], ["torch.utils.file_baton"])
    ]
    outputs = [child.communicate(timeout=120)[0] for child in children]
    (whole, put_off_at_all, _), (before, put_off, after) = map(json.loads, outputs)
    assert after == whole
    assert not put_off_at_all
    assert put_off == (len(before) < len(whole)) == torch_import._is_tested_version()


def test_garbage_is_collected_again_after_an_import() -> None:
    with torch_import._uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_garbage_that_a_program_does_not_collect_stays_uncollected() -> None:
    gc.disable()
    try:
        with torch_import._uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_pages_entered_ahead_are_handed_over_once(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"0123" * 4096)
    file_pages.fetch([file])
    file_pages.enter([file])
    ahead, anew = file_pages.mapped(file), file_pages.mapped(file)
    assert ahead[:4] == anew[:4] == b"0123"
    assert ahead is not anew
