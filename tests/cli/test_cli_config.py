"""`gptcli config` and `gptcli models alias`: what is set, shown and written, and what holds."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import REAL, environment, run
from support.fake_engine import FakeEngine

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configuration of the tests is; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "gptcli" / "config.toml"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def ok(answer: tuple[int, str, str]) -> str:
    """What a command that succeeded printed."""
    code, out, err = answer
    assert code == 0, err
    return out


def test_what_is_set_is_what_holds(file: Path, main_in: Cli) -> None:
    ok(main_in("config", "set", "top_p", "0.5"))
    ok(main_in("config", "set", "generate.top-k", "7"))
    assert file.read_text() == "top_p = 0.5\n\n[generate]\ntop_k = 7\n"
    assert ok(main_in("config", "get", "generate.top_k")) == "7\n"
    assert ok(main_in("config", "get", "top_k")) == "50\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_run_takes_what_was_set(file: Path, main_in: Cli) -> None:
    engine = FakeEngine(asked=[])
    ok(main_in("config", "set", "models.gpt2.top_k", "7"))
    ok(main_in("config", "set", "models.tiny-tales.top_k", "8"))
    ok(main_in("config", "set", "chat.top_k", "9"))
    for name, expected in [("openai-community/gpt2", 7), ("tiny-tales", 8), ("xl", 50)]:
        ok(main_in("generate", "-m", name, "Once", engine=engine))
        assert engine.asked[-1].sampling.top_k == expected


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("top_k = 1", (), 1),
        ("top_k = 1\n[models.gpt2]\ntop_k = 2", (), 1),
        ("top_k = 1\n[models.gpt2]\ntop_k = 2", ("-m", "124M"), 2),
        ('model = "gpt2"\n[models."openai-community/gpt2"]\ntop_k = 2', (), 2),
        ('[generate]\nmodel = "gpt2"\n[models.small]\ntop_k = 2', (), 2),
        ("[models.gpt2]\ntop_k = 2\n[generate]\ntop_k = 3", ("-m", "gpt2"), 3),
        ("[generate]\ntop_k = 3", ("--top-k", "5"), 5),
    ],
)
def test_the_more_special_wins(
    file: Path, main_in: Cli, text: str, flags: tuple[str, ...], expected: int
) -> None:
    write(file, text)
    engine = FakeEngine(asked=[])
    ok(main_in("generate", *flags, "Once", engine=engine))
    assert engine.asked[-1].sampling.top_k == expected


def test_a_variable_wins_over_the_file_and_chooses_the_section(
    file: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, "top_k = 1\ntop_p = 0.1\n[models.gpt2]\ntop_p = 0.2")
    monkeypatch.setenv("GPTCLI_TOP_K", "4")
    monkeypatch.setenv("GPTCLI_MODEL", "gpt2")
    engine = FakeEngine(asked=[])
    ok(main_in("generate", "Once", engine=engine))
    sampling = engine.asked[-1].sampling
    assert (sampling.top_k, sampling.top_p) == (4, 0.2)


def test_a_tasks_own_sampling_wins_over_a_models_section(file: Path, main_in: Cli) -> None:
    write(file, "[models.gpt2]\ntemperature = 0.9\ntop_p = 0.3")
    found = json.loads(
        ok(main_in("config", "--command", "translate", "-m", "gpt2", "--json", "--all"))
    )
    held = {item["key"]: (item["value"], item["origin"]) for item in found}
    assert held["top_p"] == (0.3, f"{file}:3")
    assert held["temperature"][1] == "task"


def test_comments_order_and_modes_are_kept(file: Path, main_in: Cli) -> None:
    text = "# mine\ntop_p = 0.5 # half\n\n[chat]   # talk\ntop_k=1\n"
    write(file, text)
    file.chmod(0o644)
    ok(main_in("config", "set", "chat.top_k", "2"))
    ok(main_in("config", "set", "top_p", "0.25"))
    assert file.read_text() == text.replace("top_k=1", "top_k=2").replace("0.5", "0.25")
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_link_stays_a_link(file: Path, main_in: Cli, tmp_path: Path) -> None:
    write(file, "")
    file.rename(tmp_path / "dotfile")
    file.symlink_to(tmp_path / "dotfile")
    ok(main_in("config", "set", "seed", "1"))
    assert file.is_symlink()
    assert (tmp_path / "dotfile").read_text() == "seed = 1\n"


def test_unset_takes_the_value_and_its_empty_table(file: Path, main_in: Cli) -> None:
    ok(main_in("config", "set", "seed", "1"))
    ok(main_in("config", "set", "models.gpt2.dtype", "float32"))
    ok(main_in("config", "unset", "models.gpt2.dtype"))
    assert file.read_text() == "seed = 1\n"
    code, _, err = main_in("config", "unset", "models.gpt2.dtype")
    assert (code, "it is not set" in err) == (2, True)


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("top_p", ["3"], "top_p: 3 is out of range: give above 0 and at most 1"),
        ("topp", ["1"], "Did you mean top_p?"),
        ("seed", ["x"], "'x' is not a whole number"),
        ("seed", ["1", "2"], "2 values are given for one"),
        ("dtype", ["float12"], "is not one of auto"),
        ("stream", ["maybe"], "is not true or false"),
        ("greedy", ["true"], "it can only be a flag"),
        ("config", ["x"], "it can only be a flag"),
        ("models.gpt2.model", ["x"], "it can only be a flag"),
        ("genrate.top_p", ["1"], "Did you mean generate?"),
        ("cache.top_p", ["1"], "there is no such option"),
        ("a b", ["1"], "it is no name of an option"),
        ("top_p = 1\nseed", ["1"], "it is no name of an option"),
        ("models.gpt2", ["1"], "it names no option"),
        ("aliases.x", ["gpt2"], "Use gptcli models alias"),
        ("logit_bias", ["x"], "is not TOKEN=VALUE"),
    ],
)
def test_what_no_run_would_take_is_not_written(
    file: Path, main_in: Cli, key: str, values: list[str], said: str
) -> None:
    code, out, err = main_in("config", "set", key, *values)
    assert (code, out) == (2, "")
    assert said in err
    assert not file.exists()


@pytest.mark.parametrize(
    ("key", "values", "written"),
    [
        ("stop", ["a", "b"], 'stop = ["a", "b"]\n'),
        ("stream", ["false"], "stream = false\n"),
        ("temperature", ["1"], "temperature = 1\n"),
        ("temperature", ["0.5"], "temperature = 0.5\n"),
        ("server", ["http://localhost:1"], 'server = "http://localhost:1"\n'),
        ("logit_bias", ["50256=-100"], 'logit_bias = ["50256=-100"]\n'),
        ('models."a/b-1.5".top_k', ["5"], '[models."a/b-1.5"]\ntop_k = 5\n'),
        ("translate.to", ["de"], '[translate]\nto = "de"\n'),
    ],
)
def test_values_have_the_options_type(
    file: Path, main_in: Cli, key: str, values: list[str], written: str
) -> None:
    ok(main_in("config", "set", key, *values))
    assert file.read_text() == written
    assert ok(main_in("config", "get", key)) == "".join(f"{value}\n" for value in values)


def test_show_says_where_each_value_comes_from(
    file: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, 'stop = [\n  "a",\n]\n\n[generate]\ntop_k = 6\n')
    monkeypatch.setenv("GPTCLI_TOP_P", "0.25")
    assert ok(main_in("config", "--origin")) == (
        f'stop = ["a"]  # {file}:1\ngenerate.top_k = 6  # {file}:6\ntop_p = 0.25  # GPTCLI_TOP_P\n'
    )
    lines = ok(main_in("config", "show", "--all", "--origin", "--command", "generate")).split("\n")
    assert {f"top_k = 6  # {file}:6", "top_p = 0.25  # GPTCLI_TOP_P"} <= set(lines)
    assert "temperature = 0.8  # built-in" in lines


def test_switches_in_variables_are_shown_as_they_are_taken(
    file: Path, main_in: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_OFFLINE", "1")
    monkeypatch.setenv("GPTCLI_STREAM", "no")
    assert ok(main_in("config")) == "offline = true\nstream = false\n"
    assert ok(main_in("config", "get", "offline")) == "true\n"


def test_a_broken_file_names_line_and_key(file: Path, main_in: Cli) -> None:
    for text, told in [
        ("seed = 1\n\ntop_p = 7\n", f"{file}:3: top_p: 7 is out of range"),
        ("[generate]\n\n\ntop_q = 7\n", f"{file}:4: [generate] top_q: there is no such option"),
        ("seed = \n", f"{file}: not TOML: Invalid value (at line 1"),
        ("seed = 1\n[models.gpt2]\nx = 1", f"{file}:3: [models.gpt2] x: there is no such option"),
        ("[genrate]\nseed = 1\n", f"{file}:1: table [genrate]: there is no such command"),
        ("models = 3", f"{file}:1: models: it is no table"),
    ]:
        write(file, text)
        code, out, err = main_in("generate", "-m", "gpt2", "Once", engine=FakeEngine())
        assert (code, out) == (65, "")
        assert told in err
        assert main_in("config", "set", "seed", "1")[0] in (0, 65)


def test_a_file_that_is_no_toml_is_not_written_to(file: Path, main_in: Cli) -> None:
    write(file, "seed = \n")
    code, _, err = main_in("config", "set", "top_k", "3")
    assert (code, "at line 1" in err) == (65, True)
    assert file.read_text() == "seed = \n"


def test_edit_opens_the_editor_and_checks_what_it_left(file: Path) -> None:
    editor = f"{sys.executable} -c \"import sys; open(sys.argv[1], 'w').write('x = 1')\""
    done = run(REAL, "config", "edit", EDITOR=editor, VISUAL="")
    assert done.returncode == 65
    assert f"{file}:1: x: there is no such option" in done.stderr.decode()
    done = run(REAL, "config", "edit", VISUAL="false")
    assert (done.returncode, b"code 1" in done.stderr) == (69, True)
    done = run(REAL, "config", "edit", VISUAL="/nowhere/ed")
    assert (done.returncode, b"No such file" in done.stderr) == (69, True)


def test_a_new_file_for_the_editor_is_sound(file: Path) -> None:
    done = run(REAL, "config", "edit", VISUAL="true")
    assert (done.returncode, done.stderr) == (0, b"")
    uncommented = file.read_text().replace("# [", "[").replace("# d", "d").replace("# m", "m")
    assert "[generate]" in uncommented


def test_processes_that_set_at_once_lose_nothing(file: Path) -> None:
    keys = ["top_k", "seed", "threads", "num_beams", "chat.top_k", "max_length"]
    started = [
        subprocess.Popen(
            [*REAL, "config", "set", key, "1"], env=environment(), stderr=subprocess.DEVNULL
        )
        for key in keys
    ]
    assert [process.wait(60) for process in started] == [0] * len(keys)
    found = tomllib.loads(file.read_text())
    assert found.pop("chat") == {"top_k": 1}
    assert found == dict.fromkeys(keys[:4] + keys[5:], 1)
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_a_folder_that_cannot_be_written_is_said(main_in: Cli, tmp_path: Path) -> None:
    (tmp_path / "block").write_text("")
    code, _, err = main_in("config", "set", "seed", "1", "--config", f"{tmp_path}/block/c.toml")
    assert (code, "Check the permissions" in err) == (73, True)


def test_an_alias_stands_for_its_model(file: Path, main_in: Cli, tales: Path) -> None:
    ok(main_in("models", "alias", "add", "mine", str(tales)))
    assert ok(main_in("models", "alias")) == f"mine  {tales}\n"
    shown = ok(main_in("generate", "-m", "mine", "Once", "--json", "--max-new-tokens", "2"))
    assert json.loads(shown)["model"] == str(tales)
    ok(main_in("config", "set", "model", "mine"))
    ok(main_in("config", "set", "models.mine.max_new_tokens", "1"))
    shown = json.loads(ok(main_in("generate", "Once", "--json")))
    assert (shown["model"], shown["usage"]["completion_tokens"]) == (str(tales), 1)
    assert ok(main_in("models", "path", "mine")) == f"{tales}\n"
    ok(main_in("models", "alias", "rm", "mine"))
    assert main_in("models", "alias", "rm", "mine")[0] == 2


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("gpt2", "a/b", "is a name that gptcli knows"),
        ("tiny-tales", "a/b", "is a name that gptcli knows"),
        ("a/b", "gpt2", "cannot be a name"),
        ("../x", "gpt2", "cannot be a name"),
        ("-x", "gpt2", "no such option"),
        ("x", "first", "is an alias itself"),
        ("x", "a--b", "is not a model name"),
    ],
)
def test_an_alias_that_cannot_be_is_refused(
    file: Path, main_in: Cli, name: str, model: str, said: str
) -> None:
    write(file, '[aliases]\nfirst = "gpt2"\n')
    code, _, err = main_in("models", "alias", "add", name, model)
    assert (code, said in err) == (2, True), err
    assert file.read_text() == '[aliases]\nfirst = "gpt2"\n'


def test_broken_aliases_name_their_line(file: Path, main_in: Cli) -> None:
    write(file, '[aliases]\na = "b/c"\nxl = "b/c"\n')
    code, _, err = main_in("generate", "-m", "a", "Once", engine=FakeEngine())
    assert code == 65
    assert f"{file}:3: [aliases] xl: xl is a name that gptcli knows" in err


def test_ordinary_runs_do_not_load_the_library_that_writes() -> None:
    code = """if True:
        import sys
        from gptcli.cli.main import main
        try:
            main(["config"])
        except SystemExit:
            print({"tomlkit", "torch", "tokenizers"} & set(sys.modules))
    """
    assert run([sys.executable, "-c", code]).stdout == b"set()\n"
