"""Completion in the shells themselves: Tab in bash and zsh on a terminal, `complete -C` in fish.

Each shell has a home of its own, in which gptcli installed its completion.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import ROOT, Terminal

FOLDERS = ("my model", "$(touch EVIL)", "a`touch EVIL`b", "it's", 'q"uote', "co:lon", "gpt2", "%s")
HOSTILE = ("new\nline", "\x1b[31mred", "models--$(touch EVIL)--x")
SHOW = b"\x0f"  # Ctrl-O prints the line as it is, between << and >>
PROMPT = "@@ "

# A line up to the cursor, and what Tab makes of it in bash and zsh.
LINES = [
    ("gptcli gen", "gptcli generate "),
    ("gptcli generate -m gpt2-me", "gptcli generate -m gpt2-medium "),
    ("gptcli generate --model=gpt2-me", "gptcli generate --model=gpt2-medium "),
    ("gptcli generate -mgpt2-me", "gptcli generate -mgpt2-medium "),
    ("gptcli generate -m EleutherAI/py", "gptcli generate -m EleutherAI/pythia-70m "),
    ("gptcli generate -m my", "gptcli generate -m my\\ model "),
    ('gptcli generate -m "my m', 'gptcli generate -m "my model" '),
    ("gptcli generate -m co:l", "gptcli generate -m co:lon "),
    ("gptcli generate -m \\$", "gptcli generate -m \\$\\(touch\\ EVIL\\) "),
    ("gptcli generate -m 'a`", "gptcli generate -m 'a`touch EVIL`b' "),
    ('gptcli generate -m "q', 'gptcli generate -m "q\\"uote" '),
    ("gptcli generate -m sub/", "gptcli generate -m sub/folder/"),
    ("gptcli generate -m $(touch EVIL) --dty", "gptcli generate -m $(touch EVIL) --dtype "),
    ("gptcli run translate --to f", "gptcli run translate --to fr "),
    ("gptcli batch --task translate --set to=f", "gptcli batch --task translate --set to=fr "),
    ("gptcli batch --task answer --set c", "gptcli batch --task answer --set context="),
    ("gptcli generate -f pr", "gptcli generate -f prompts.txt "),
    ("gptcli generate --file=pr", "gptcli generate --file=prompts.txt "),
    ("gptcli batch pr", "gptcli batch prompts.txt "),
    ("gptcli generate x > pr", "gptcli generate x > prompts.txt "),
    ("gptcli generate pr", "gptcli generate pr"),  # a prompt is no file
    ("X=1 gptcli gen", "X=1 gptcli generate "),
    ("g gen", "g generate "),  # an alias
]
LARGE = ("gpt2-large", "large")
# The same for fish, which lists candidates as they are.
LISTED = [
    ("gptcli gen", ["generate\tContinue a prompt"]),
    ("gptcli generate -m arg", [f"{name}\topenai-community/gpt2-large" for name in LARGE]),
    ("gptcli generate --model=gpt2-me", ["--model=gpt2-medium\topenai-community/gpt2-medium"]),
    ("gptcli generate -m El", ["EleutherAI/pythia-70m\tin the cache"]),
    ("gptcli generate -m 'my m", ["my model\tfolder"]),
    ("gptcli generate -m '$(t", ["$(touch EVIL)\tfolder"]),
    ("gptcli generate -m %", ["%s\tfolder"]),
    ("gptcli generate -m sub/", ["sub/folder/"]),
    ("gptcli generate -m (touch EVIL) --dty", ["--dtype\tData type of the weights"]),
    ("gptcli run translate --to=f", ["--to=fr"]),
    ("gptcli generate --file=pr", ["--file=prompts.txt"]),
    ("gptcli batch pr", ["prompts.txt"]),
    ("gptcli generate pr", []),
]


def installed(shell: str) -> str:
    """The path of a shell; skips the test where there is none."""
    return shutil.which(shell) or pytest.skip(f"{shell} is not installed")


class Home:
    """A home folder with gptcli in its path, a cache, and a working folder of hostile names."""

    def __init__(self, path: Path) -> None:
        self.path, self.work = path, path / "work"
        (path / "bin").mkdir(parents=True)
        program = path / "bin" / "gptcli"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gptcli "$@"\n')
        program.chmod(0o755)
        for name in (*FOLDERS, *HOSTILE):
            (self.work / name).mkdir(parents=True)
            (self.work / name / "config.json").touch()
        (self.work / "sub" / "folder").mkdir(parents=True)
        (self.work / "prompts.txt").touch()
        for name in ("models--EleutherAI--pythia-70m", *HOSTILE):
            (path / "hub" / name).mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name[:4] != "XDG_"}
        return {
            **{name: value for name, value in inherited.items() if name != "ZDOTDIR"},
            "HOME": str(self.path),
            "PATH": f"{self.path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_CACHE": str(self.path / "hub"),
            "TERM": "xterm",
        }

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.work if self.work.exists() else self.path,
            env={**self.environment, **changes},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def check_nothing_was_executed(self) -> None:
        assert not [*self.work.glob("EVIL"), *self.path.glob("EVIL")]

    def files(self) -> dict[str, str]:
        """What the shells' own files hold."""
        found = (self.path / name for name in (".bashrc", ".zshrc", ".local", ".config"))
        inside = (file for path in found for file in (path, *path.rglob("*")) if file.is_file())
        return {str(file.relative_to(self.path)): file.read_text() for file in inside}


class Typist:
    """Somebody at an interactive shell."""

    def __init__(self, shell: str, home: Home) -> None:
        self.terminal = Terminal([shell, "-i"], **home.environment)
        self.terminal.read_until(PROMPT.encode())

    def completed(self, line: str) -> str:
        """The line after Tab; it is thrown away."""
        self.terminal.output = b""
        self.terminal.send(line.encode() + b"\t" + SHOW)
        self.terminal.read_until(b">>\r\n")
        return self.terminal.output.decode().rpartition("<<")[2].partition(">>")[0]

    @property
    def shown(self) -> str:
        """What was on the screen meanwhile."""
        return self.terminal.output.decode()

    def leave(self) -> None:
        self.terminal.send(b"\x15exit\n")
        self.terminal.finish()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Typist, Home]]:
    shell, home = installed("bash"), Home(tmp_path_factory.mktemp("bash") / "home")
    if home.run(shell, "-c", '[[ "${BASH_VERSINFO[0]}" -ge 5 ]]').returncode:
        pytest.skip("bash is older than 5")
    home.run("gptcli", "--install-completion", "bash")
    settings = [
        f"PS1='{PROMPT}'",
        "cd ~/work",
        "alias g=gptcli; complete -o default -F _gptcli g",
        "bind 'set bell-style none'",
        r"""bind -x '"\C-o": printf "<<%s>>\n" "$READLINE_LINE"; READLINE_LINE='""",
    ]
    with (home.path / ".bashrc").open("a") as file:
        file.write("\n".join(settings) + "\n")
    typist = Typist(shell, home)
    yield typist, home
    typist.leave()
    home.check_nothing_was_executed()


@pytest.fixture(scope="module")
def zsh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Typist, Home]]:
    shell, home = installed("zsh"), Home(tmp_path_factory.mktemp("zsh") / "home")
    home.run("gptcli", "--install-completion", "zsh")
    settings = [
        "unsetopt beep",
        "cd ~/work",
        "alias g=gptcli",
        'show() { print -r -- "<<$BUFFER>>"; BUFFER= }',
        "zle -N show; bindkey '^O' show",
        f"PS1='{PROMPT}'",
    ]
    with (home.path / ".zshrc").open("a") as file:
        file.write("\n".join(settings) + "\n")
    typist = Typist(shell, home)
    yield typist, home
    typist.leave()
    home.check_nothing_was_executed()


@pytest.fixture(scope="module")
def fish(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[str]]]:
    """A function that gives the candidates for a line."""
    shell, home = installed("fish"), Home(tmp_path_factory.mktemp("fish") / "home")
    home.run("gptcli", "--install-completion", "fish")

    def listed(line: str) -> list[str]:
        done = home.run(shell, "-c", f"complete -C {shlex.quote(line)}")
        assert done.stderr == ""
        return done.stdout.splitlines()

    yield listed
    home.check_nothing_was_executed()


@pytest.mark.parametrize(("line", "expected"), LINES, ids=lambda text: text)
def test_bash_completes(bash: tuple[Typist, Home], line: str, expected: str) -> None:
    assert bash[0].completed(line) == expected


@pytest.mark.parametrize(("line", "expected"), LINES, ids=lambda text: text)
def test_zsh_completes(zsh: tuple[Typist, Home], line: str, expected: str) -> None:
    assert zsh[0].completed(line) == expected


@pytest.mark.parametrize(("line", "expected"), LISTED, ids=str)
def test_fish_completes(fish: Callable[[str], list[str]], line: str, expected: list[str]) -> None:
    assert fish(line) == expected


def test_zsh_shows_descriptions(zsh: tuple[Typist, Home]) -> None:
    zsh[0].completed("gptcli run ")
    assert "-- Summarize a text" in zsh[0].shown


def test_zsh_lists_no_hostile_name(zsh: tuple[Typist, Home]) -> None:
    zsh[0].completed("gptcli generate -m ")
    assert "tiny-tales" in zsh[0].shown
    assert "red" not in zsh[0].shown
    assert "line" not in zsh[0].shown


def test_bash_lists_no_hostile_name(bash: tuple[Typist, Home]) -> None:
    bash[0].completed("gptcli generate -m \t")
    assert "tiny-tales" in bash[0].shown
    assert "red" not in bash[0].shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installing_twice_is_installing_once(home: Home, shell: str) -> None:
    first = home.run("gptcli", "--install-completion", shell)
    files = home.files()
    again = home.run("gptcli", "--install-completion", shell)
    assert (first.returncode, again.returncode) == (0, 0)
    assert home.files() == files
    assert again.stdout == first.stdout
    assert files[str(Path(first.stdout.strip()).relative_to(home.path))]


def test_installing_keeps_what_a_start_up_file_holds(home: Home) -> None:
    (home.path / "dotfiles").write_bytes(b"alias a=b # \xff")
    (home.path / ".bashrc").symlink_to("dotfiles")
    home.run("gptcli", "--install-completion", "bash")
    first, second = (home.path / "dotfiles").read_bytes().splitlines()
    assert first == b"alias a=b # \xff"
    assert second.startswith(b"[ -r ")
    assert (home.path / ".bashrc").is_symlink()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_recognised(home: Home, shell: str) -> None:
    done = home.run(installed(shell), "-c", "gptcli --show-completion; true")
    assert (
        done.stdout == (ROOT / "gptcli" / "cli" / "completion" / f"completion.{shell}").read_text()
    )


def test_an_unknown_shell_is_refused(home: Home) -> None:
    done = home.run("gptcli", "--install-completion", "tcsh")
    assert done.returncode == 2
    assert "'tcsh'" in done.stderr


def test_a_folder_that_cannot_be_written_says_what_to_do(home: Home) -> None:
    (home.path / ".local").write_text("no folder")
    done = home.run("gptcli", "--install-completion", "bash")
    assert done.returncode == 73
    assert "gptcli --show-completion bash > FILE" in done.stderr
    assert not (home.path / ".bashrc").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_gptcli_that_is_not_there_lists_files(
    request: pytest.FixtureRequest, shell: str, home: Home
) -> None:
    """No error stands in the line, and a file can still be named."""
    path = installed(shell)
    home.run("gptcli", "--install-completion", shell)
    (home.path / "bin" / "gptcli").unlink()
    if shell == "fish":
        assert home.run(path, "-c", "complete -C 'gptcli generate pr'").stdout == "prompts.txt\n"
        return
    extra = {
        "bash": r"""bind -x '"\C-o": printf "<<%s>>\n" "$READLINE_LINE"; READLINE_LINE='""",
        "zsh": "show() { print -r -- \"<<$BUFFER>>\"; BUFFER= }\nzle -N show; bindkey '^O' show",
    }
    with (home.path / f".{shell}rc").open("a") as file:
        file.write(f"cd ~/work\nPS1='{PROMPT}'\n{extra[shell]}\n")
    typist = Typist(path, home)
    assert typist.completed("gptcli generate pr") == "gptcli generate prompts.txt "
    typist.leave()
