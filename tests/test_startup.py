"""What is cheap stays cheap: no heavy library is imported before a model is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from commands import environment

HEAVY = (
    *("torch", "transformers", "tokenizers", "huggingface_hub", "numpy", "httpx", "pydantic"),
    *("jinja2", "prompt_toolkit", "httpx2", "openai", "pyarrow", "ray"),
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
        (["generate"], 2),
        (["generate", "-f", "/nowhere"], 66),
        (["generate", "Once", "-o", "/nowhere/a.txt"], 73),
        (["generate", "Once", "-m", "./nowhere"], 66),
    ],
)
def test_no_heavy_import(args: list[str], code: int) -> None:
    assert imported(f"from gptcli.cli.app import main; main({args})")[:2] == [code, []]


def test_errors_do_not_need_rich() -> None:
    action = "from gptcli.cli.app import main; main(['generate', 'Once', '--top-p', '2'])"
    assert imported(action)[2] is False
