"""What is offered where: names, values, options; nothing heavy, nothing raw, no complaint."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from support.commands import REAL, environment, run

from gptcli.checkpoints.names import ALIASES
from gptcli.cli import registry, root
from gptcli.cli.completion import candidates, complete
from gptcli.cli.completion.complete import FILES, FOLDERS, NOTHING, Suggestions, split

TASK = """
description = "Rewrite a text."
prompt = "{input} in {style}:"
[options.style]
type = "choice"
help = "How."
choices = ["verse", "prose"]
default = "verse"
[options.notes]
type = "file"
help = "What to mind."
"""


@pytest.fixture(scope="module")
def command() -> Any:
    return typer.main.get_command(root.app)


@pytest.fixture
def offered(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function from the words of a line, the last one unfinished, to what is offered there.

    It runs in an empty folder, with a cache and a configuration of its own.
    """
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "gptcli" / "tasks").mkdir(parents=True)
    # Where another test imported huggingface_hub, that decides.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def offered(*words: str) -> Suggestions:
        return complete.offer(command, words[:-1], words[-1])

    return offered


def values(found: Suggestions) -> list[str]:
    return [value for value, _ in found.candidates]


def own_task(tmp_path: Path, text: str) -> None:
    (tmp_path / "config" / "gptcli" / "tasks" / "rewrite.toml").write_text(text)


# Where


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gen"], ("generate", "Continue a prompt")),
        (["tasks", ""], ("show", "Print the file of a task; with --json the parsed task")),
        (["cache", ""], ("clear", "Remove all kept weights, or those of one model")),
        (["inspect", ""], ("lens", "Show what each layer would say next")),
        (["run", ""], ("translate", "Translate a text, sentence by sentence")),
        (["cache", "-"], ("--json", "Write JSON")),
        (["inspect", "a text", "-"], ("--bos", "Put the token that begins a text before it")),
        (["generate", "--top"], ("--top-p", "Sample among the fewest tokens")),
        (["--"], ("--version", "Show the version")),
        (["tasks", "show", ""], ("code", "Complete code")),
        (["docs", ""], ("scoring", "gptcli score measures how likely a text is")),
        (["batch", "--task", ""], ("code", "Complete code")),
        (["batch", "--task", "translate", "--set", ""], ("to=fr", "Language to translate to")),
        (["batch", "--task=answer", "--set", ""], ("context=", "")),
        (["--show-completion", ""], ("zsh", "")),
        (["generate", "-m", ""], ("medium", "openai-community/gpt2-medium")),
        (["generate", "--draft-model", ""], ("tiny-tales", "comes with gptcli")),
        (["generate", "-qm", ""], ("medium", "openai-community/gpt2-medium")),
        (["generate", "--draft_model", ""], ("tiny-tales", "comes with gptcli")),
        (["generate", "--seed", "1", "-m", ""], ("xl", "openai-community/gpt2-xl")),
        (["run", "translate", "--to", ""], ("fr", "")),
        (["translate", "--from", ""], ("nl", "")),
        (["generate", "--device", ""], ("cuda", "")),
        (["generate", "--format", ""], ("jsonl", "")),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_offered(offered, words: list[str], expected: tuple[str, str]) -> None:
    found = dict(offered(*words).candidates)
    assert found[expected[0]].startswith(expected[1])


@pytest.mark.parametrize(
    ("words", "otherwise"),
    [
        (["generate", "-f", ""], FILES),
        (["generate", "-o", ""], FILES),
        (["generate", "--config", ""], FILES),
        (["generate", "-m", ""], FOLDERS),
        (["batch", "a.txt", ""], FILES),
        (["batch", "--set", ""], NOTHING),  # of no task
        (["batch", "--task", "nonsense", "--set", ""], NOTHING),
        (["generate", ""], NOTHING),  # a prompt is no file
        (["generate", "--stop", ""], NOTHING),
        (["generate", "prompt", "more"], NOTHING),
        (["generate", "--top-p", ""], NOTHING),
        (["", ""], NOTHING),
        (["nonsense", ""], NOTHING),
        (["run", "nonsense", "-"], NOTHING),
        (["generate", "--nonsense="], NOTHING),
        (["generate", "--", "-"], NOTHING),
        (["batch", "--", "-"], FILES),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_otherwise_listed(offered, words: list[str], otherwise: str) -> None:
    assert offered(*words).otherwise == otherwise


@pytest.mark.parametrize("entry", registry.COMMANDS, ids=lambda entry: entry.name)
def test_every_option_with_a_file_lists_files(entry: registry.CommandEntry) -> None:
    loaded = root.LazyCommand(entry).load()
    inner = loaded.commands.values() if isinstance(loaded, root.Group) else [loaded]
    for command in inner:
        ctx = typer.Context(command)
        for param in command.params:
            if param.metavar == "FILE" or param.name in ("file", "output"):
                assert [item.value for item in param.shell_complete(ctx, "")] == [FILES], param.opts


@pytest.mark.parametrize("word", ["--model=gp", "--draft-model=", "-mgp", "-qmgp"])
def test_a_value_may_stand_in_the_word_of_its_option(offered, word: str) -> None:
    found = offered("generate", word)
    assert found.before == word.removesuffix("gp")
    assert "gpt2" in values(found)


def test_an_option_that_was_given_is_not_offered_again(offered) -> None:
    found = values(offered("generate", "--model=x", "--echo", "--stop", "a", "-"))
    assert {"-m", "--model", "--echo", "--no-echo"}.isdisjoint(found)
    assert "--stop" in found  # repeatable


def test_an_own_task_has_its_options_completed(offered, tmp_path: Path) -> None:
    own_task(tmp_path, TASK)
    assert ("rewrite", "Rewrite a text") in offered("run", "").candidates
    assert values(offered("run", "rewrite", "--style", "")) == ["verse", "prose"]
    assert offered("run", "rewrite", "--notes", "").otherwise == FILES


def test_a_broken_task_is_offered_with_its_fault_but_has_no_options(
    offered, tmp_path: Path
) -> None:
    own_task(tmp_path, "nonsense")
    assert "not TOML" in dict(offered("tasks", "show", "").candidates)["rewrite"]
    assert offered("run", "rewrite", "-") == Suggestions()


# Models


def in_cache(tmp_path: Path, *names: str) -> None:
    for name in names:
        (tmp_path / "hub" / name).mkdir(parents=True)


def test_models_of_the_cache_are_offered(offered, tmp_path: Path) -> None:
    in_cache(tmp_path, "models--EleutherAI--pythia-70m", "models--old", "datasets--a--b", "tmp")
    found = dict(offered("generate", "-m", "").candidates)
    assert {name for name, said in found.items() if said == "in the cache"} == {
        *("EleutherAI/pythia-70m", "old")
    }


@pytest.mark.parametrize("folder", ["models--openai-community--gpt2", "models--gpt2"])
def test_an_alias_says_whether_its_model_is_in_the_cache(
    offered, tmp_path: Path, folder: str
) -> None:
    in_cache(tmp_path, folder)
    found = dict(offered("generate", "-m", "").candidates)
    assert found["small"] == "openai-community/gpt2, in the cache"
    assert found["xl"] == "openai-community/gpt2-xl"


@pytest.mark.parametrize(
    "name", ["$(touch x)--y", "a`b`--c", "a\nb--c", "a\x1b[31m--c", "a--b--c", "--a", "a b--c"]
)
def test_what_cannot_be_a_hub_id_is_not_offered_from_the_cache(
    offered, tmp_path: Path, name: str
) -> None:
    in_cache(tmp_path, f"models--{name}")
    assert "in the cache" not in dict(offered("generate", "-m", "").candidates).values()


def test_folders_with_a_model_are_offered(offered, tmp_path: Path) -> None:
    for name in ("tuned", "my model", "gpt2", "-dash", "empty", "new\nline", "esc\x1b[31m"):
        (tmp_path / "work" / name).mkdir()
        if name != "empty":
            (tmp_path / "work" / name / "config.json").touch()
    found = offered("generate", "-m", "").candidates
    folders = {name for name, said in found if said == "folder"}
    assert folders == {"tuned", "my model", "./gpt2", "./-dash"}


def test_aliases_of_the_configuration_are_offered(offered, tmp_path: Path) -> None:
    config = tmp_path / "config" / "gptcli" / "config.toml"
    config.write_text('[aliases]\ntales = "./runs/tales"\nbad = 1\n')
    found = dict(offered("generate", "-m", "").candidates)
    assert found["tales"] == "./runs/tales"
    assert "bad" not in found


@pytest.mark.parametrize("broken", [b"nonsense", b"\xff", b"aliases = 3", b"[" * 10000])
def test_a_broken_configuration_leaves_the_rest(offered, tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "config" / "gptcli" / "config.toml").write_bytes(broken)
    assert set(ALIASES) < set(values(offered("generate", "-m", "")))


def test_a_cache_that_cannot_be_read_leaves_the_rest(offered, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("no folder")
    assert set(ALIASES) < set(values(offered("generate", "-m", "")))


def test_a_folder_that_is_gone_leaves_the_rest(offered, tmp_path: Path) -> None:
    (tmp_path / "work").rmdir()
    assert set(ALIASES) < set(values(offered("generate", "-m", "")))


# Keys of the configuration


def keys(typed: str) -> list[str]:
    ctx = typer.Context(root.LazyCommand(registry.COMMANDS[0]), obj=candidates.Typed((), typed))
    return [key for key, _ in candidates.config_keys(ctx)]


def test_keys_of_all_commands_and_tables_come_first() -> None:
    found = keys("")
    assert {"top_p", "model", "quiet", "generate.", "translate.", "models."} <= set(found)
    assert len(found) == len(set(found))
    assert {"json", "greedy", "config"}.isdisjoint(found)  # only flags


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("generate.to", "generate.top_p"),
        ("batch.", "batch.workers"),
        ("inspect.", "inspect.by"),
        ("translate.", "translate.from"),
        ("models.", "models.gpt2."),
        ("models.gpt2.d", "models.gpt2.dtype"),
    ],
)
def test_keys_of_a_table_come_once_it_is_there(typed: str, expected: str) -> None:
    found = keys(typed)
    assert expected in found
    assert all(key.startswith(typed.rpartition(".")[0]) for key in found)


@pytest.mark.parametrize("typed", ["nonsense.", "a.b.c.", "..", "run."])
def test_a_table_that_does_not_exist_has_no_keys(typed: str) -> None:
    assert keys(typed) == []


# What shells get


@pytest.mark.parametrize(
    ("line", "words", "quote"),
    [
        ("gptcli ", ["gptcli", ""], ""),
        ("gptcli gen", ["gptcli", "gen"], ""),
        ("gptcli a\\ ", ["gptcli", "a "], ""),
        ("gptcli 'a b", ["gptcli", "a b"], "'"),
        ('gptcli --model="a b', ["gptcli", "--model=a b"], '"'),
        ("gptcli '' x", ["gptcli", "", "x"], ""),
        ("gptcli a\\", ["gptcli", "a"], ""),
        ("gptcli $(touch x) # é", ["gptcli", "$(touch", "x)", "#", "é"], ""),
    ],
)
def test_a_line_of_bash_is_split(line: str, words: list[str], quote: str) -> None:
    assert split(line) == (words, quote)


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1))
@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_what_bash_gets_is_one_word_again(quote: str, name: str) -> None:
    found = Suggestions(tuple(filter(complete._is_usual, [(name, "")])))
    for word in complete._bash(found, "", "", quote).splitlines()[1:]:
        assert split(f"{quote}{word}{quote}") == ([name], "")


def test_zsh_gets_colons_of_a_value_escaped() -> None:
    found = Suggestions((("a:b", "c:d"), ("e", "")))
    assert complete._zsh(found) == "nothing \na\\:b:c:d\ne\n"


def test_fish_gets_what_holds_the_word() -> None:
    found = Suggestions((("gpt2-Medium", "x"), ("gpt2", "y")), FOLDERS, "--model=")
    answer = complete._fish(Suggestions(found.candidates, FOLDERS), "med")
    assert answer == "folders \ngpt2-Medium\tx\n"
    assert complete._fish(found, "--model=gpt2-").endswith("\n--model=gpt2-Medium\tx\n")


def test_a_description_stays_on_its_line(offered, tmp_path: Path) -> None:
    own_task(tmp_path, TASK.replace("Rewrite a text.", "Re\\u001b[31m\\twrite"))
    said = dict(offered("run", "").candidates).get("rewrite", "")
    assert "\x1b" not in said
    assert "\t" not in said


# As a process


def asked(*words: str, **changes: object) -> subprocess.CompletedProcess[bytes]:
    return run(REAL, *words, _GPTCLI_COMPLETE="fish", **changes)


def test_words_that_are_flags_do_nothing() -> None:
    done = asked("--version", "generate", "--profile-startup", "--debug", "--help", "--dty")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"nothing \n--dtype\t")


def test_a_failure_is_silent(tmp_path: Path) -> None:
    done = asked()  # no words: no script of ours asks so
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_failure_is_told_to_who_looks_for_it() -> None:
    assert b"Traceback" in asked(GPTCLI_DEBUG=1).stderr


@pytest.mark.parametrize("closed", [">&-", "> /dev/full", "| true"])
def test_a_closed_output_is_silent(closed: str) -> None:
    if closed.endswith("full") and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    line = f'"$0" -m gptcli generate - {closed}'
    done = subprocess.run(
        ["sh", "-c", line, REAL[0]],
        env=environment(_GPTCLI_COMPLETE="fish"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_locked_cache_is_silent(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir(mode=0)
    done = asked("generate", "-m", "med", HF_HUB_CACHE=tmp_path / "hub")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"folders \ngpt2-medium\t")
