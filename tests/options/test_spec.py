"""Every option as a flag, an environment variable and a line of config.toml."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from support.fake_engine import FakeEngine

from gptcli.cli.commands import generate as command
from gptcli.cli.main import main
from gptcli.options import Input, Load, Output, Record, Sampling, Talk
from gptcli.options.spec import flag_of, spec_of

GROUPS = (Input, Load, Sampling, Output, Talk)
NUMBERS = [
    (
        item,
        float in getattr(get_type_hints(group)[item.name], "__args__", ())
        or get_type_hints(group)[item.name] is float,
    )
    for group in GROUPS
    for item in fields(group)
    if spec_of(item).low is not None or spec_of(item).above is not None
]
Seen = dict[str, Any]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Seen]:
    """A function that parses a command line and gives the value of every option."""

    def parse(*args: str) -> Seen:
        seen: Seen = {}

        def generate(
            prompt: str | None = None,
            *,
            input: Input,
            load: Load,
            sampling: Sampling,
            output: Output,
            talk: Talk,
        ) -> None:
            """Note the options."""
            for group in (input, load, sampling, output, talk):
                seen.update(vars(group))

        monkeypatch.setattr(command, "generate", generate)
        with pytest.raises(SystemExit) as leaving:
            main(["generate", *args])
        assert leaving.value.code == 0, args
        return seen

    return parse


def refuse(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    """Run a command line that is a usage error; gives its message."""
    with pytest.raises(SystemExit) as leaving:
        main(["generate", "Once", *args])
    assert leaving.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_defaults_are_those_of_the_dataclasses(parse: Callable[..., Seen]) -> None:
    seen = parse()
    assert seen == {item.name: item.default for group in GROUPS for item in fields(group)}


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        (["-f", "p.txt"], "file", "p.txt"),
        (["--on-overflow", "truncate-left"], "on_overflow", "truncate-left"),
        (["--allow-empty"], "allow_empty", True),
        (["--errors", "replace"], "errors", "replace"),
        (["-m", "gpt2"], "model", "gpt2"),
        (["--revision", "main"], "revision", "main"),
        (["--device", "cpu"], "device", "cpu"),
        (["--dtype", "bfloat16"], "dtype", "bfloat16"),
        (["--threads", "2"], "threads", 2),
        (["--offline"], "offline", True),
        (["-t", "0"], "temperature", 0.0),
        (["--temp", "1e-40"], "temperature", 1e-40),
        (["--greedy"], "greedy", True),
        (["--top-k", "0"], "top_k", 0),
        (["--top-p", "1"], "top_p", 1.0),
        (["--min-p", "0.1"], "min_p", 0.1),
        (["--typical-p", "0.9"], "typical_p", 0.9),
        (["--repetition-penalty", "1.2"], "repetition_penalty", 1.2),
        (["--no-repeat-ngram-size", "3"], "no_repeat_ngram_size", 3),
        (["--presence-penalty", "-2"], "presence_penalty", -2.0),
        (["--frequency-penalty", "2"], "frequency_penalty", 2.0),
        (["--bad-words", " a", "--bad-words", "b"], "bad_words", (" a", "b")),
        (["--logit-bias", " the=-5"], "logit_bias", ((" the", -5.0),)),
        (["--max-tokens", "5"], "max_new_tokens", 5),
        (["--max-length", "9"], "max_length", 9),
        (["--min-new-tokens", "3"], "min_new_tokens", 3),
        (["-n", "3"], "num_return_sequences", 3),
        (["--num-beams", "4"], "num_beams", 4),
        (["--seed", "0"], "seed", 0),
        (["--stop", r"\n", "--stop=a b"], "stop", ("\n", "a b")),
        (["--stop-on-loop"], "stop_on_loop", True),
        (["--logprobs", "0"], "logprobs", 0),
        (["-o", "a.txt"], "output", "a.txt"),
        (["--force"], "force", True),
        (["--format", "csv"], "format", "csv"),
        (["--json"], "json", True),
        (["--no-echo"], "echo", False),
        (["--stream"], "stream", True),
        (["-q"], "quiet", True),
        (["-v"], "verbose", True),
        (["--debug"], "debug", True),
        (["--top_k", "7"], "top_k", 7),
        (["--no_echo"], "echo", False),
        (["--max_new_tokens=6"], "max_new_tokens", 6),
    ],
)
def test_flag_sets_its_option(
    parse: Callable[..., Seen], flag: list[str], name: str, value: object
) -> None:
    assert parse(*flag)[name] == value


def test_underscores_in_values_are_kept(parse: Callable[..., Seen]) -> None:
    assert parse("-m", "my_model", "--stop", "a_b", "-f", "c_d")["model"] == "my_model"
    assert parse("--stop", "a_b")["stop"] == ("a_b",)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MODEL", "gpt2", "gpt2"),
        ("TOP_K", "3", 3),
        ("MAX_NEW_TOKENS", "4", 4),
        ("OFFLINE", "1", True),
        ("ECHO", "0", False),
        ("STOP", "a b\n c", ("a b", " c")),
        ("FORMAT", "jsonl", "jsonl"),
    ],
)
def test_environment_sets_an_option(
    parse: Callable[..., Seen],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    value: object,
) -> None:
    monkeypatch.setenv(f"GPTCLI_{name}", text)
    assert parse()[name.lower()] == value


def test_flag_over_environment_over_file_over_default(
    parse: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("top_k = 1\ntop_p = 0.1\nmin_p = 0.1\nstop = ['x']\necho = false")
    monkeypatch.setenv("GPTCLI_TOP_P", "0.2")
    monkeypatch.setenv("GPTCLI_MIN_P", "0.2")
    seen = parse("--config", str(path), "--min-p", "0.3", "--echo")
    assert (seen["top_k"], seen["top_p"], seen["min_p"]) == (1, 0.2, 0.3)
    assert (seen["stop"], seen["echo"], seen["seed"]) == (("x",), True, None)


@pytest.mark.parametrize(("item", "real"), NUMBERS, ids=lambda value: getattr(value, "name", ""))
def test_every_range_is_refused_by_name(
    capfd: pytest.CaptureFixture[str], item: Any, real: bool
) -> None:
    spec = spec_of(item)
    low = spec.above if spec.low is None else spec.low - 1
    bad = [f"{low:g}", "nan", "inf"] if real else [f"{low:g}"]
    if spec.high is not None:
        bad.append(str(int(spec.high) + 1))
    for text in bad:
        assert flag_of(item) in refuse(capfd, f"{flag_of(item)}={text}")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--temperature", "nan"], "--temperature: nan is out of range. Give from 0 to 100."),
        (["--temperature", "inf"], "--temperature"),
        (["--temperature", "-1"], "--temperature"),
        (["--top-p", "0"], "--top-p: 0.0 is out of range. Give above 0 and at most 1."),
        (["--top-p", "1.5"], "--top-p"),
        (["--seed", "-1"], "--seed"),
        (["--top-k", "many"], "--top-k: 'many' is not a whole number"),
        (["--seed"], "--seed: it needs a value"),
        (["--greedy=1"], "--greedy: it takes no value"),
        (["--tpo-p", "1"], "--tpo-p: no such option. Did you mean"),
        (["--device", "tpu"], "--device: 'tpu' is not one of"),
        (["upon"], "unexpected extra argument"),
        (["- a list\n" * 20], "Put -- before a prompt that begins with a dash."),
        (["--logit-bias", "x"], "--logit-bias: 'x' is not TOKEN=VALUE"),
        (["--logit-bias", "x=101"], "--logit-bias"),
        (["--stop", ""], "--stop: the text is empty"),
        (["--bad-words", ""], "--bad-words"),
        (["-n", "3", "--num-beams", "2"], "--num-return-sequences"),
    ],
)
def test_usage_errors_name_the_option(
    capfd: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert told in refuse(capfd, *args)


def test_bad_environment_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_TOP_P", "7")
    assert "--top-p (or GPTCLI_TOP_P)" in refuse(capfd)


def help_text(capfd: pytest.CaptureFixture[str], *args: str, page: str = "--help") -> str:
    with pytest.raises(SystemExit) as leaving:
        main([*args, page])
    assert leaving.value.code == 0
    return " ".join(capfd.readouterr().out.replace("│", "").split())


def test_help_lists_the_panels_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    shown = help_text(capfd, "generate")
    places = [shown.index(f" {name} ─") for name in ("Input", "Model", "Sampling", "Output")]
    assert places == sorted(places)
    assert shown.index(" General ─") > places[-1]


def test_help_shows_every_flag(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = help_text(capfd, "generate", page="--help-all")
    for group in GROUPS:
        for item in fields(group):
            for flag in "/".join(spec_of(item).flags).split("/"):
                assert flag in shown


def test_help_shows_the_configured_default_once(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "[default: 128]" in help_text(capfd, "generate")
    (tmp_path / "c.toml").write_text("max_new_tokens = 5")
    shown = help_text(capfd, "generate", "--config", str(tmp_path / "c.toml"))
    assert "[default: 5]" in shown
    assert "[default: 128]" not in shown


def test_broken_configuration_does_not_break_help(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("=")
    assert "Sampling" in help_text(capfd, "generate", "--config", str(tmp_path / "c.toml"))


def test_broken_configuration_is_bad_config(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("=")
    with pytest.raises(SystemExit) as leaving:
        main(["generate", "Once", "--config", str(tmp_path / "c.toml")])
    assert leaving.value.code == 65
    assert "c.toml: not TOML" in capfd.readouterr().err


def test_command_is_a_plain_function(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptcli.engines.open_engine", lambda *_, **__: FakeEngine())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    command.generate(
        "Once",
        input=Input(),
        load=Load(),
        sampling=Sampling(),
        output=Output(),
        record=Record(),
        talk=Talk(),
    )
    assert capfd.readouterr().out == "Once there was\n"
