"""What config.toml may say, and what is said when it is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gptcli import config
from gptcli.config import reading
from gptcli.config.lines import MAX_PARSED, line_of
from gptcli.errors import BadConfig, MissingInput
from gptcli.options import Input, Load, Output, Sampling, Talk

GROUPS = (Input, Load, Sampling, Output, Talk)
NONE: dict[str, Any] = {}


@pytest.fixture
def read(tmp_path: Path):
    """A function that gives the defaults of `generate` under a configuration text."""

    def read(
        text: str | bytes, groups: tuple[type, ...] = GROUPS, presets: Mapping[str, Any] = NONE
    ) -> dict[str, Any]:
        path = tmp_path / "c.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        tables = ["generate", "chat"]
        scope = config.Scope("generate", groups, lambda: tables, presets, others=lambda: GROUPS)
        return config.defaults(str(path), scope)

    return read


def test_top_level_is_for_every_command(read) -> None:
    assert read("top_p = 0.5") == {"top_p": 0.5}


def test_table_wins_over_the_top_level(read) -> None:
    assert read("top_k = 5\n[generate]\ntop_k = 6\n[chat]\ntop_k = 7") == {"top_k": 6}


def test_presets_win_over_the_top_level_but_not_over_the_table(read) -> None:
    text, presets = "top_k = 5\ntop_p = 0.5", {"top_k": 2, "temperature": 0.0}
    assert read(text, presets=presets) == {"top_k": 2, "top_p": 0.5, "temperature": 0.0}
    table = "\n[generate]\ntop_k = 6"
    assert read(text + table, presets=presets)["top_k"] == 6


def test_options_that_the_command_lacks_are_left_out(read) -> None:
    assert read('model = "gpt2"\ntop_k = 5', groups=(Load,)) == {"model": "gpt2"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('stop = ["\\n", "END"]', {"stop": ["\n", "END"]}),
        ("temperature = 1", {"temperature": 1}),
        ("echo = false", {"echo": False}),
        ('dtype = "float16"', {"dtype": "float16"}),
        ("max_new_tokens = 5", {"max_new_tokens": 5}),
        ('logit_bias = ["50256=-100"]', {"logit_bias": ["50256=-100"]}),
        ("", {}),
    ],
)
def test_values_of_every_type(read, text: str, values: dict[str, Any]) -> None:
    assert read(text) == values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("topp = 1", "c.toml:1: topp: there is no such option. Did you mean top_p?"),
        ("top-p = 1", "Did you mean top_p"),
        ("zzz = 1", "Known: "),
        ("[generate]\nzzz = 1", r"\[generate\] zzz"),
        ("[generat]\ntop_k = 1", r"table \[generat\].*Did you mean generate"),
        ("generate = 1", r"Write \[generate\]"),
        ("top_p = 1.5", "top_p: 1.5 is out of range: give above 0 and at most 1"),
        ("temperature = nan", "out of range"),
        ("temperature = inf", "out of range"),
        ("top_k = -1", "out of range"),
        ("top_k = 1.5", "not a whole number"),
        ("top_k = true", "not a whole number"),
        ('top_k = "5"', "not a whole number"),
        ('temperature = "hot"', "not a number"),
        ("offline = 1", "not true or false"),
        ("model = 5", "not a text"),
        ('device = "tpu"', "'tpu' is not one of auto, cpu"),
        ('stop = "END"', "not a list of texts"),
        ("stop = [1]", "not a list of texts"),
        ('logit_bias = ["x"]', "not TOKEN=VALUE"),
        ("json = true", "can only be a flag.*format"),
        ("greedy = true", "can only be a flag.*temperature = 0"),
        ('config = "x"', "can only be a flag"),
        ("top_p = \n", "not TOML.*line 1"),
        ("a = 1\nb = = 2", "not TOML.*line 2"),
        (b"model = '\xff'", "invalid UTF-8 at byte 9"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        (b"#" * (reading.MAX_FILE_BYTES + 1), "more than 128 KiB"),
    ],
)
def test_bad_configuration_names_file_and_key(read, text: str, told: str) -> None:
    with pytest.raises(BadConfig, match=told) as caught:
        read(text)
    assert "c.toml" in str(caught.value)


def test_named_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="no such file"):
        config.find(str(tmp_path / "none.toml"))


def test_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="is a directory"):
        config.defaults(str(tmp_path), config.Scope("generate", GROUPS, lambda: ["generate"]))


def test_environment_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").touch()
    monkeypatch.setenv("GPTCLI_CONFIG", str(tmp_path / "mine.toml"))
    assert config.find(None) == tmp_path / "mine.toml"


def test_flag_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").touch()
    monkeypatch.setenv("GPTCLI_CONFIG", "/nowhere")
    assert config.find(str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"


def test_user_folder_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert config.find(None) is None
    (tmp_path / "gptcli").mkdir()
    (tmp_path / "gptcli" / "config.toml").touch()
    assert config.find(None) == tmp_path / "gptcli" / "config.toml"


def test_a_key_of_thousands_of_parts_is_refused_before_it_is_parsed(read) -> None:
    with pytest.raises(BadConfig, match="a key of more than 32 parts"):
        read("top_p = 0.5\na" + ".a" * 50_000 + " = 1")


def test_a_place_is_told_only_where_finding_it_takes_little(monkeypatch) -> None:
    parsed = 0
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        nonlocal parsed
        parsed += len(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    text = f"stop = '{'x' * 500_000}'\n" + "".join(f"k{number} = 1\n" for number in range(300))
    assert line_of(text, ["k3"]) == 5
    assert line_of(text, ["k299"]) is None
    assert parsed <= 2 * MAX_PARSED
