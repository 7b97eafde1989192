"""What is cheap stays cheap: nothing is imported that is not needed, least of all torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.commands import REAL, ROOT, TALES, environment, run
from support.fake_engine import FakeEngine
from support.fake_server import FakeServer

from gptcli import native
from gptcli.cli.output import profile
from gptcli.system import stages

HEAVY = (
    *("torch", "transformers", "tokenizers", "huggingface_hub", "numpy", "httpx", "pydantic"),
    *("jinja2", "prompt_toolkit", "httpx2", "openai", "pyarrow", "ray"),
    "unicodedata",  # its tables take a tenth of a second
)
# Reads actions with their environments, a line each; each runs in a process of its own, forked from
# one that has imported no more than PRELOADED, and tells its exit code and what it had imported.
NURSERY = """
import io, json, os, sys
heavy, preloaded = json.loads(sys.argv[1])
for name in preloaded:
    __import__(name)
def told(action, environment, out):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ.clear()
    os.environ.update(environment)
    code = 0
    try:
        exec(action, {})
    except SystemExit as leaving:
        code = leaving.code
    sys.stdout.flush()
    seen = [name for name in heavy if name in sys.modules]
    known = [code, seen, "rich" in sys.modules, "typer" in sys.modules]
    os.write(out, json.dumps(known).encode())
for line in sys.stdin:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = io.TextIOWrapper(os.fdopen(0, "rb", closefd=False))
        try:
            told(*json.loads(line), writing)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    print(text, flush=True)
"""
# The program itself, as its script starts it; at its end it tells what it had imported.
COLD = """
import json, os, sys
def end(code, leave=os._exit):
    from gptcli.system import stages
    with open(os.environ["SEEN"], "w") as file:
        json.dump([list(sys.modules), stages.recorded()], file)
    leave(code)
os._exit = end
from gptcli.__main__ import main
main()
"""
MAIN_LINE = [
    *("command line's imports", "options", "input", "checkpoint", "preflight"),
    *("engine's imports", "weights", "rest of the tokenizer", "first token"),
]
needs_kernels = pytest.mark.skipif(
    native.library() is None, reason="without kernels torch runs the model"
)


Nursery = subprocess.Popen[str]


@contextmanager
def nursery(*preloaded: str) -> Iterator[Nursery]:
    """A process that runs actions, see NURSERY."""
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY, json.dumps([HEAVY, preloaded])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        yield process


@pytest.fixture(scope="module")
def bare() -> Iterator[Nursery]:
    """Of one that has imported nothing."""
    with nursery() as process:
        yield process


@pytest.fixture(scope="module")
def program() -> Iterator[Nursery]:
    """Of one that has imported what every command imports."""
    with nursery("gptcli.cli.main", "gptcli.cli.root") as process:
        yield process


def imported(where: Nursery, action: str) -> list[Any]:
    """Exit code, heavy modules, and whether Rich and Typer were imported by `action`."""
    assert where.stdin is not None
    assert where.stdout is not None
    where.stdin.write(json.dumps([action, environment()]) + "\n")
    where.stdin.flush()
    result: list[Any] = json.loads(where.stdout.readline())
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
    modules, recorded = json.loads(seen.read_text())
    return {
        "packages": {name.partition(".")[0] for name in modules},
        "modules": set(modules),
        "stages": [stages.Stage(*stage) for stage in recorded],
        "stdout": done.stdout.decode(),
        "stderr": done.stderr.decode(),
    }


def test_a_dry_run_of_a_task_counts_tokens_without_torch(program: Nursery) -> None:
    action = f"from gptcli.cli.main import main; main({['summarize', 'x', '--dry-run', *TALES]!r})"
    code, heavy, *_ = imported(program, action)
    assert (code, heavy) == (0, ["tokenizers"])


def test_a_server_is_asked_with_little_more_than_an_http_client(program: Nursery) -> None:
    with FakeServer() as server:
        args = ["generate", "Once", "--server", server.url, "-m", "gpt2"]
        code, heavy, rich, _ = imported(
            program, f"from gptcli.cli.main import main; main({args!r})"
        )
    assert (code, heavy, rich) == (0, ["httpx2", "unicodedata"], False)


# Each command line of a list; what heavy modules are there after each that succeeds.
ONE_AFTER_THE_OTHER = """
import json, sys
from gptcli.cli.main import main
commands, heavy = json.loads(sys.argv[1])
seen = []
for args in commands:
    try:
        main(args)
    except SystemExit as leaving:
        if leaving.code == 0:
            seen.append([args, [name for name in heavy if name in sys.modules]])
print()
print(json.dumps(seen))
"""
# Looks into the bundled model without opening an engine.
LOOK = """
from types import SimpleNamespace
from gptcli import inspection
from gptcli.checkpoints.resolve import resolve
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.options import Filters, Load
from gptcli.protocol import ModelInfo
folder = resolve(Load(model="tiny-tales")).folder
info = ModelInfo(name="tiny-tales", revision=None, architecture="gpt2", context=256,
    vocabulary=4096, parameters=0, dtype="int8", device="cpu", folder=folder)
inside = inspection.inside(SimpleNamespace(info=info, tokenizer=load_tokenizer(folder)))
assert inspection.attention_view(inside, "Once upon a").weights.shape == (6, 6, 4, 4)
assert inspection.lens_view(inside, "Once upon a").layers[-1][-1][0].token == " time"
from gptcli.engines.gpt2 import tracing
assert tracing.outcome(inside, [0, 1], None)[1] < 0
"""


def test_the_inside_of_a_model_is_read_without_torch(bare: Nursery) -> None:
    assert imported(bare, f"exec({LOOK!r})") == [0, ["tokenizers", "numpy"], False, False]


def test_generate_imports_nothing_of_other_formats_and_tasks(cold: dict[str, Any]) -> None:
    assert not cold["modules"] & {
        "gptcli.checkpoints.sources",  # each costs a millisecond or more
        "gptcli.checkpoints.tokenization.pieces.classes",
        "gptcli.tasks.text.passages",
    }


@needs_kernels
@pytest.mark.parametrize(
    "args",
    [
        ["Once"],
        ["Once", "--json"],
        ["next", "Once", "--top-k", "5", "--top-p", "0.9"],
        ["attention", "Once", "--all"],
        ["lens", "Once"],
    ],
    ids=" ".join,
)
def test_inspect_shows_all_but_gradients_without_torch(program: Nursery, args: list[str]) -> None:
    words = ["inspect", *args, *TALES, "--device", "cpu"]
    code, heavy, *_ = imported(program, f"from gptcli.cli.main import main; main({words})")
    shown = {"unicodedata"}  # for tokens that are no ASCII, in a table
    assert (code, set(heavy) - shown) == (0, {"tokenizers", "numpy"})


def test_what_runs_no_model_imports_no_torch() -> None:
    commands: list[list[str]] = [
        *(["models", word, "tiny-tales"] for word in ("info", "verify", "path")),
        *(["models", "list", "--json"], ["models", "alias"]),
        *(["tasks", "show", "summarize"], ["config", "show"], ["cache", "list"]),
        *(["cache", "clear", "-y"], ["docs", "inspect"]),
        ["run", "summarize", "x", "--dry-run", *TALES],
        ["inspect", "tokens", "Once", "--json", *TALES],
    ]
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps([commands, HEAVY])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        check=True,
    )
    found = {" ".join(args): heavy for args, heavy in json.loads(done.stdout.splitlines()[-1])}
    assert list(found) == [" ".join(args) for args in commands]
    for args, heavy in found.items():
        assert heavy == (["tokenizers"] if args.endswith(" ".join(TALES)) else []), args


@pytest.fixture
def recording() -> Any:
    """A record that is switched off again."""
    stages.record(True)
    yield
    stages.record(False)


def test_importing_the_package_imports_nothing(bare: Nursery) -> None:
    assert imported(bare, "import gptcli") == [0, [], False, False]


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
        (["train", "--help"], 0),
        (["train"], 0),
        (["train", "tale.txt"], 2),
        (["train", "tale.txt", "-o", "x", "--lr", "0"], 2),
        (["train", "tale.txt", "-o", "x", "--recipe", "nobody"], 66),
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
        (["inspect", "Once", "-m", "./nowhere"], 66),
        (["inspect", "lens", "Once", "-m", "./nowhere"], 66),
        (["inspect", "attribution", "Once", "--target", "x", "-m", "./nowhere"], 66),
        (["inspect", "attention", "Once", "--layer", "-1"], 2),
    ],
)
def test_no_heavy_import(program: Nursery, args: list[str], code: int) -> None:
    assert imported(program, f"from gptcli.cli.main import main; main({args})")[:2] == [code, []]


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
def test_completion_imports_nothing_heavy(program: Nursery, words: list[str]) -> None:
    asked = "import os; os.environ['_GPTCLI_COMPLETE'] = 'fish'; from gptcli.cli.main import main"
    assert imported(program, f"{asked}; main({words})")[:3] == [0, [], False]


def test_errors_do_not_need_rich(program: Nursery) -> None:
    action = "from gptcli.cli.main import main; main(['generate', 'Once', '--top-p', '2'])"
    assert imported(program, action)[2] is False


def test_a_cold_generate_imports_only_what_it_uses(cold: dict[str, Any]) -> None:
    used = {"gptcli", "numpy", "tokenizers", "typer", "platformdirs"}
    # What typer brings along, and where torch runs the model, what torch does.
    brought = {"typing_extensions", "annotated_doc", "torch", "torchgen", "functorch"}
    own = sys.stdlib_module_names | {"__mp_main__", "sitecustomize", "usercustomize"}
    foreign = {name for name in cold["packages"] - own if not name.startswith("_")}
    assert foreign - used - brought <= {"shellingham", "tqdm", "triton"}
    assert used <= foreign


@needs_kernels
def test_a_cold_generate_leaves_out_torch(cold: dict[str, Any]) -> None:
    assert not cold["packages"] & {"torch", "functorch", "torchgen", "transformers"}


def test_the_stages_of_a_cold_generate_follow_each_other(cold: dict[str, Any]) -> None:
    line = [stage for stage in cold["stages"] if not stage.beside]
    assert [stage.name for stage in line if stage.name != "torch"] == MAIN_LINE
    assert all(former.end == stage.begin for former, stage in pairwise(line))


def test_the_tokenizer_is_loaded_beside_the_weights(cold: dict[str, Any]) -> None:
    named = {stage.name: stage for stage in cold["stages"]}
    assert {stage.name for stage in cold["stages"] if stage.beside} == {"tokenizer"}
    assert named["preflight"].end <= named["tokenizer"].begin < named["weights"].end


def test_the_profile_shows_every_stage_on_stderr_alone(cold: dict[str, Any]) -> None:
    shown = [line[: len("command line's imports")] for line in cold["stderr"].splitlines()]
    names = [stage.name for stage in cold["stages"] if not stage.beside]
    line = ["interpreter", *names, "to the first token"]
    assert [name.strip() for name in shown[1 : len(line) + 1]] == line
    assert cold["stdout"].startswith("Once")
    assert "interpreter" not in cold["stdout"]


SHORT = [*TALES, "--max-new-tokens", "2"]
WITHOUT_TORCH = {
    "generate": ["generate", "Once", *SHORT],
    "generate many": ["generate", "Once", *SHORT, "-n", "3", "--logprobs", "2", "--json"],
    "generate in int8": ["generate", "Once", *SHORT, "--dtype", "int8"],
    "generate in float16": ["generate", "Once", *SHORT, "--dtype", "float16"],
    "generate in bfloat16": ["generate", "Once", *SHORT, "--dtype", "bfloat16"],
    "generate with all filters": [
        *("generate", "Once", *SHORT, "--min-p", "0.1", "--typical-p", "0.9", "--seed", "1"),
        *("--repetition-penalty", "1.2", "--no-repeat-ngram-size", "2", "--bad-words", "x"),
    ],
    "generate with lookup": ["generate", "Once Once Once", *SHORT, "--draft", "ngram"],
    "generate with drafts": ["generate", "Once", *SHORT, "--draft-model", "tiny-tales"],
    "chat": ["chat", *SHORT],
    "score": ["score", "Once upon a time", *TALES],
    "score in detail": ["score", "Once upon a time", *TALES, "--words", "--json"],
    "score tokens": ["score", "Once upon a time", *TALES, "--tokens"],
    "score in int8": ["score", "Once upon a time", *TALES, "--dtype", "int8"],
    "score of pairs": ["score", "--compare", "--context", "Once", " upon", " the", *TALES],
    "summarize": ["summarize", "A king had three sons.", *SHORT],
    "translate": ["translate", "A king.", "--to", "fr", *SHORT],
    "answer": ["answer", "Who?", *SHORT],
    "classify": ["classify", "A king.", "--labels", "good,bad", *TALES],
    "classify calibrated": [
        *("classify", "A king.", "--labels", "good,bad", "--calibration", "pmi", *TALES)
    ],
    "extract": ["extract", "A king.", *SHORT],
    "code": ["code", "def f():", *SHORT],
    "run": ["run", "summarize", "A king.", *SHORT],
}
HAS_TORCH = {"torch", "transformers"}


def torch_after(where: Nursery, action: str) -> set[str]:
    """Which of torch and transformers an action that succeeds imports."""
    code, heavy, *_ = imported(where, action)
    assert code == 0
    return HAS_TORCH & set(heavy)


@needs_kernels
@pytest.mark.parametrize("args", WITHOUT_TORCH.values(), ids=list(WITHOUT_TORCH))
def test_torch_is_not_imported_to_run_a_gpt2_on_a_cpu(program: Nursery, args: list[str]) -> None:
    assert not torch_after(program, f"from gptcli.cli.main import main; main({args})")


@needs_kernels
@pytest.mark.parametrize(
    "how",
    [["--batch-size", "4"], ["--dtype", "int8"], ["--task", "summarize"]],
    ids=" ".join,
)
def test_torch_is_not_imported_for_a_batch(
    program: Nursery, tmp_path: Path, how: list[str]
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("Once\nThe king\nA fox\nOnce upon\nThe\n")
    args = ["batch", str(prompts), "-o", str(out), *SHORT, *how]
    assert not torch_after(program, f"from gptcli.cli.main import main; main({args})")
    assert len(out.read_text().splitlines()) == 5


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_where_torch_is_broken_a_batch_runs_in_every_worker(tmp_path: Path, dtype: str) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was asked for')")
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("Once\nThe king\nA fox\nOnce upon\nThe\n")
    args = ("batch", str(prompts), "-o", str(out), *SHORT, "--workers", "2", "--dtype", dtype)
    done = run(REAL, *args, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, b"was asked for" in done.stderr) == (0, False)
    assert len(out.read_text().splitlines()) == 5
    text = run(
        REAL, "generate", "Once", *SHORT, "--num-beams", "2", PYTHONPATH=f"{tmp_path}:{ROOT}"
    )
    assert b"torch was asked for" in text.stderr


@needs_kernels
def test_torch_is_not_imported_to_record_and_to_replay(program: Nursery, tmp_path: Path) -> None:
    record = str(tmp_path / "run.jsonl")
    lines = [
        ["generate", "Once", *SHORT, "--record", record],
        ["replay", record],
    ]
    for args in lines:
        assert not torch_after(program, f"from gptcli.cli.main import main; main({args})")


@needs_kernels
@pytest.mark.parametrize(
    "use",
    [
        "model.generate('Once', max_new_tokens=2)",
        "model.score('Once upon a time')",
        "list(model.generate_many(['Once', 'The'], max_new_tokens=2, num_return_sequences=3))",
        "list(model.stream('Once', max_new_tokens=2))",
    ],
)
def test_torch_is_not_imported_for_a_program_that_uses_the_library(bare: Nursery, use: str) -> None:
    action = f"import gptcli; model = gptcli.load('tiny-tales', offline=True); {use}"
    assert not torch_after(bare, action)


def test_gradients_are_what_imports_torch(program: Nursery) -> None:
    args = ["inspect", "attribution", "Once upon", *TALES]
    assert torch_after(program, f"from gptcli.cli.main import main; main({args})") == {"torch"}


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
