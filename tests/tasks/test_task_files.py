"""Task files: what a good one gives, how a bad one is refused, and its options as flags."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.task_files import FULL, SHOTS, TOP, task

from gptcli.errors import BadTask, MissingInput
from gptcli.tasks.definition import schema, templates
from gptcli.tasks.definition.catalog import BUILT_IN, SKELETON
from gptcli.tasks.definition.task import Task, Variant


def option(line: str, name: str = "a") -> str:
    """A task with one option; `line` holds its keys."""
    return f"{TOP}[options.{name}]\n{line}"


# What a good file gives


def test_a_minimal_file_has_the_defaults_of_a_task() -> None:
    assert task(TOP) == Task(
        name="try", source="try.toml", description="Try.", prompt="{input}", examples=()
    )


def test_texts_are_as_written() -> None:
    assert task().help == "Two\nlines."
    assert task().examples == ({"en": "yes", "fr": "oui"}, {"en": "no", "fr": ""})
    assert (task().columns, task().stop, task().piped) == (("{from}", "{to}"), ("\n",), "context")


def test_options_are_in_the_order_of_the_file() -> None:
    assert [item.name for item in task().options] == (
        ["style", "from", "to", "count", "share", "loud", "parts", "context"]
    )


def test_defaults_of_options_have_their_types() -> None:
    assert [item.default for item in task().options] == (
        [None, "en", "fr", 2, 1.0, False, ("a", "b c"), None]
    )


def test_sampling_is_parsed_as_flags_are() -> None:
    assert task().sampling == {
        "temperature": 0,
        "bad_words": (" x",),
        "logit_bias": (("50256", -100.0),),
    }


def test_references_stay_as_written() -> None:
    assert task().answer.parameters == {
        "sentences": "{count}",
        "ratio": 0.5,
        "abstain_below": -1.5,
        "abstain": "unknown",
    }


def test_a_variant_is_a_wording_of_its_own() -> None:
    assert task().variants == (
        Variant(
            when="context", prompt="{context} {examples}{input}", example="{input}: {output}\n"
        ),
    )


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.toml")), ids=lambda path: path.stem)
def test_built_in_tasks_can_be_read(path: Path) -> None:
    assert schema.read(path).name == path.stem


def test_the_skeleton_is_a_task() -> None:
    assert schema.parse(SKELETON.read_text("utf-8"), "mine", "mine.toml").takes_examples


# Bad files. Each: text, the place that the error names, the rule.

LABELS = f'{TOP}[answer]\nkind = "labels"\n'
A_TEXT = 'type = "text"\nhelp = "A."\n'
CHOICE = 'type = "choice"\nhelp = "A."\n'
BAD = [
    ("x = = 1", "", "not TOML.*line 1"),
    (f"x = {'[' * 100_000}", "", "nested too deeply"),
    (f"x = {'1' * 5000}", "", "not TOML"),
    (f"{TOP}prompt = ''", "", "not TOML.*overwrite"),
    ("prompt = '{input}'", "description", "missing"),
    ("description = 'Try.'", "prompt", "missing"),
    (TOP.replace('"Try."', "5"), "description", "whole number, not a text"),
    (TOP.replace('"Try."', '" "'), "description", "empty"),
    (TOP.replace('"Try."', r'"a\nb"'), "description", "one line"),
    (TOP.replace('"Try."', r'"a\u001bb"'), "description", "one line"),
    (f"{TOP}promt = 'x'", "promt", "no such key. Did you mean prompt"),
    (f"{TOP}help = 1979-05-27", "help", "a date, not a text"),
    (TOP.replace("{input}", "x"), "prompt", "must hold {input}"),
    (TOP.replace("{input}", "{input} {inptu}"), "prompt", "{inptu}.*Did you mean input"),
    (TOP.replace("{input}", "{input} {"), "prompt", "unpaired brace"),
    (TOP.replace("{input}", "{input} }"), "prompt", "unpaired brace"),
    (TOP.replace("{input}", "{input:>9}"), "prompt", "plain name"),
    (TOP.replace("{input}", "{input!r}"), "prompt", "plain name"),
    (TOP.replace("{input}", "{input.__class__}"), "prompt", "plain name"),
    (TOP.replace("{input}", "{input[0]}"), "prompt", "plain name"),
    (TOP.replace("{input}", "{input} {}"), "prompt", "plain name"),
    (TOP.replace("{input}", "{input} {0}"), "prompt", "plain name"),
    (TOP.replace("{input}", "{examples}{input}"), "example", "missing.*{examples}"),
    (SHOTS.replace("{examples}", ""), "example", "nothing shows it"),
    (SHOTS.replace("{input} {output}", "{input}"), "example", "must hold {output}"),
    (SHOTS.replace("{input} {output}", "{output}"), "example", "must hold {input}"),
    (f"{TOP}[[examples]]\ninput = 'a'\noutput = 'b'", "examples", "nothing shows them"),
    (f"{SHOTS}examples = 'a'", "examples", "a text, not a list"),
    (f"{SHOTS}examples = ['a']", "examples", "a text, not a table"),
    (f"{SHOTS}[[examples]]\ninput = 'a'", r"\[\[examples\]\] 1 output", "lacks this column"),
    (f"{SHOTS}[[examples]]\ninput = 'a'\noutput = 1", "examples.* output", "not a text"),
    (f"{SHOTS}[[examples]]\ninput = 'a'\noutput = 'b'\nc = 'd'", "1 c", "no such key"),
    (
        f"{SHOTS}examples = [{{input = 'a', output = 'b'}}, {{input = 'a', ouput = 'b'}}]",
        "2 output",
        "lacks this column",
    ),
    (FULL.replace('fr = "oui"', 'de = "ja"'), "1 fr", "lacks this column"),
    (f"{TOP}columns = ['a']", "columns", "two columns"),
    (f"{TOP}columns = ['a', 'a']", "columns", "two columns"),
    (f'{TOP}columns = ["a", "\\u0007"]', "columns", "two columns"),
    (f"{TOP}columns = ['{{a}}', 'b']", "columns", "{a} is no field"),
    (
        f"{TOP}columns = ['{{a}}', 'b']\n[options.a]\n{A_TEXT}",
        "columns",
        "not an option of type choice",
    ),
    (f"{TOP}stop = ['']", "stop", "empty"),
    (f"{TOP}stop = 'a'", "stop", "a text, not a list"),
    (f"{TOP}piped = 'a'", "piped", "no option with a text"),
    (f"{TOP}options = 1", "options", "not a table"),
    (f"{TOP}options.a = 1", r"\[options\] a", "not a table"),
    (option("help = 'A.'"), r"\[options.a\] type", "missing"),
    (option("type = 'test'\nhelp = 'A.'"), "type", "'test' is not one of text, file"),
    (option("type = 'text'"), "help", "missing"),
    (option(r'type = "text"' + '\nhelp = "a\\nb"'), "help", "one line"),
    (option(f"{A_TEXT}defalt = 'x'"), "defalt", "Did you mean default"),
    (option(A_TEXT, name="'A b'"), r"\[options\] A b", "small letters"),
    (option(A_TEXT, name='"a\\u0000"'), "a\0", "small letters"),
    (option(A_TEXT, name="a_"), "a_", "small letters"),
    (option(A_TEXT, name="a" * 41), "a" * 41, "small letters"),
    *((option(A_TEXT, name=name), name, "taken") for name in ("input", "output", "examples")),
    *((option(A_TEXT, name=name), name, "taken") for name in ("model", "top_p", "temp", "lines")),
    *((option(A_TEXT, name=name), name, "taken") for name in ("file", "json", "debug", "no_echo")),
    *((option(A_TEXT, name=name), name, "taken") for name in ("help", "version", "dry_run")),
    (option(A_TEXT, name="example"), "example", "taken"),
    (
        f"{TOP}[options.a]\ntype = 'flag'\nhelp = 'A.'\n[options.no_a]\n{A_TEXT}",
        "no_a",
        "a flag of a already",
    ),
    (option(f"{A_TEXT}default = 1"), "default", "not a text"),
    (option("type = 'integer'\nhelp = 'A.'\ndefault = 1.5"), "default", "not a whole number"),
    (option("type = 'integer'\nhelp = 'A.'\ndefault = true"), "default", "not a whole number"),
    (option("type = 'integer'\nhelp = 'A.'\nlow = 0.5"), "low", "not a whole number"),
    (option("type = 'integer'\nhelp = 'A.'\nlow = 2\ndefault = 1"), "default", "at least 2"),
    (option("type = 'number'\nhelp = 'A.'\nhigh = 2\ndefault = 3"), "default", "at most 2"),
    (option("type = 'number'\nhelp = 'A.'\nlow = 2\nhigh = 1"), "low", "more than high"),
    (option("type = 'number'\nhelp = 'A.'\ndefault = nan"), "default", "not a number"),
    (option("type = 'number'\nhelp = 'A.'\nhigh = inf"), "high", "not a number"),
    (option(f"type = 'number'\nhelp = 'A.'\ndefault = {10**400}"), "default", "64 bits"),
    (option("type = 'flag'\nhelp = 'A.'\ndefault = 1"), "default", "not true or false"),
    (option("type = 'list'\nhelp = 'A.'\ndefault = 'a'"), "default", "not a list"),
    (option("type = 'list'\nhelp = 'A.'\ndefault = ['a', 1]"), "default", "not a list of texts"),
    (option("type = 'list'\nhelp = 'A.'\ndefault = ['a,b']"), "default", "comma"),
    (option("type = 'list'\nhelp = 'A.'\ndefault = ['']"), "default", "empty"),
    (option("type = 'list'\nhelp = 'A.'\ndefault = []"), "default", "empty"),
    (option(f"{A_TEXT}low = 1"), "low", "has no range"),
    (option(f"{A_TEXT}choices = ['a']"), "choices", "has none"),
    (option(CHOICE), "choices", "missing"),
    (option(f"{CHOICE}choices = []"), "choices", "at least one"),
    (option(f"{CHOICE}choices = ['a', 'a']"), "choices", "twice"),
    (option(f'{CHOICE}choices = ["a\\n"]'), "choices", "one line"),
    (option(f"{CHOICE}choices = ['a', 'b']\ndefault = 'c'"), "default", "not one of a, b"),
    (option(f"{A_TEXT}differs_from = 'b'"), "differs_from", "no other option"),
    (option(f"{A_TEXT}differs_from = 'a'"), "differs_from", "no other option"),
    (FULL.replace('default = "fr"', 'default = "en"'), r"\[options.to\] default", "not differ"),
    (f"{TOP}[sampling]\ntopp = 1", r"\[sampling\] topp", "Did you mean top_p"),
    *((f"{TOP}[sampling]\n{key} = 1", key, "no such key") for key in ("seed", "logprobs", "stop")),
    (f"{TOP}[sampling]\nnum_return_sequences = 2", "num_return_sequences", "no such key"),
    (f"{TOP}[sampling]\ngreedy = true", "greedy", "cannot set it. Write temperature = 0"),
    (f"{TOP}[sampling]\ntop_p = 1.5", "top_p", "out of range"),
    (f"{TOP}[sampling]\ntop_p = nan", "top_p", "out of range"),
    (f"{TOP}[sampling]\ntop_k = {10**400}", "top_k", "out of range"),
    (f"{TOP}[sampling]\ntop_k = '5'", "top_k", "not a whole number"),
    (f"{TOP}[sampling]\nbad_words = 'x'", "bad_words", "not a tuple"),
    (f"{TOP}[sampling]\nlogit_bias = ['x']", "logit_bias", "not TOKEN=VALUE"),
    (f"{TOP}[sampling]\nnum_beams = 2\nstop_on_loop = true", "stop_on_loop", "not go with"),
    (f"{TOP}[answer]\nkind = 'word'", r"\[answer\] kind", "not one of text, line"),
    (f"{TOP}[answer]\nlabels = ['a', 'b']", "labels", "no such key"),
    (f"{TOP}[answer]\nkind = 'sentences'", "sentences", "missing.*kind sentences"),
    (LABELS, "labels", "missing.*kind labels"),
    (f"{TOP}[answer]\nkind = 'spans'", "types", "missing.*kind spans"),
    (f"{TOP}[answer]\nkind = 'spans'\ntypes = []", "types", "empty"),
    (f"{TOP}[answer]\nkind = 'spans'\ntypes = ['']", "types", "empty"),
    (f"{TOP}[answer]\nkind = 'spans'\ntypes = ['a']\nabstain = 'x'", "abstain", "no such key"),
    (f"{LABELS}labels = 'a, b'", "labels", "not a list"),
    (f"{LABELS}labels = ['a']", "labels", "nothing to choose"),
    (f"{LABELS}labels = ['a', 'a']", "labels", "twice"),
    (f"{LABELS}labels = ['a', 'b']\ncalibration = 'x'", "calibration", "not one of none"),
    (f"{LABELS}labels = ['a', 'b']\nabstain_below = 2", "abstain_below", "at most 1"),
    (f"{TOP}[answer]\nabstain_below = 0.5", "abstain_below", "at most 0"),
    (f"{TOP}[answer]\nkind = 'sentences'\nsentences = 0", "sentences", "at least 1"),
    (f"{TOP}[answer]\nkind = 'code'\nuntil = 'end'", "until", "not one of dedent"),
    (f"{TOP}[answer]\nkind = 'sentences'\nsentences = '{{n}}'", "sentences", "'n' is no option"),
    (f"{TOP}[answer]\nabstain = '{{a}} or {{b}}'", "abstain", "is no option"),
    (FULL.replace('"{count}"', '"{share}"'), "sentences", "of type number, not integer"),
    (
        FULL.replace("default = 2", "default = 0").replace("low = 1", "low = 0"),
        "sentences",
        "least",
    ),
    (f"{TOP}[long]\nstrategy = 'cut'", r"\[long\] strategy", "'cut' is not one of each"),
    (f"{TOP}[long]\nfield = 'context'", "field", "not one of input"),
    (f"{TOP}[long]\nunit = 'word'", "unit", "not one of sentence"),
    (f"{TOP}[long]\nfields = 'input'", "fields", "Did you mean field"),
    (f"{TOP}[long]\nstrategy = '{{a}}'", "strategy", "'a' is no option"),
    (
        f"{TOP}[long]\nstrategy = '{{a}}'\n[options.a]\n{CHOICE}choices = ['each', 'cut']",
        "strategy",
        "by the option a, 'cut' is not one of",
    ),
    (f"{TOP}[[variants]]\nprompt = '{{input}}'", r"\[\[variants\]\] 1 when", "missing"),
    (f"{TOP}[[variants]]\nwhen = 'a'\nprompt = '{{input}}'", "when", "no option of the task"),
    (FULL.replace('when = "context"', 'whne = "context"'), "1 whne", "Did you mean when"),
    (FULL.replace('"{context} {examples}', '"{cntext} {examples}'), "1 prompt", "{cntext}"),
    (f"{FULL}{FULL[FULL.index('[[variants]]') :]}", "2 when", "already"),
    (
        f"{SHOTS}[options.a]\n{A_TEXT}[[variants]]\nwhen = 'a'\nprompt = '{{input}}'",
        "1 example",
        "all",
    ),
]


@pytest.mark.parametrize(("text", "key", "rule"), BAD, ids=[f"{case[1]}" for case in BAD])
def test_a_bad_file_is_refused_by_key_and_rule(text: str, key: str, rule: str) -> None:
    with pytest.raises(BadTask) as caught:
        task(text)
    pattern = f"{key}: .*{rule}" if key else rule
    assert re.match(f"(?s)try.toml: .*{pattern}", str(caught.value)), str(caught.value)
    assert caught.value.hint
    assert int(caught.value.exit_code) == 65


@pytest.mark.parametrize(
    "name", ["", "Try", "1st", "a b", "../a", "a\nb", "a\0", "\u00e9", "a" * 65]
)
def test_a_file_whose_name_no_task_can_have(name: str) -> None:
    with pytest.raises(BadTask, match="a task's name is small letters"):
        schema.parse(TOP, name, "the file")


# Files


def test_a_byte_order_mark_and_crlf_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "try.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TOP.replace("\n", "\r\n").encode())
    assert schema.read(path).prompt == "{input}"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"a = '\xff'", "invalid UTF-8 at byte 5"),
        (b"#" * (schema.MAX_FILE_BYTES + 1), "larger than 262144"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, rule: str) -> None:
    path = tmp_path / "try.toml"
    path.write_bytes(data)
    with pytest.raises(BadTask, match=f"try.toml: {rule}"):
        schema.read(path)


def test_a_file_as_large_as_allowed(tmp_path: Path) -> None:
    path = tmp_path / "try.toml"
    path.write_text(TOP + "#" * (schema.MAX_FILE_BYTES - len(TOP)))
    assert schema.read(path).name == "try"


def test_a_folder_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(BadTask, match="not a regular file"):
        schema.read_text(tmp_path)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "try.toml")
    with pytest.raises(BadTask, match="not a regular file"):
        schema.read(tmp_path / "try.toml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="No such file"):
        schema.read(tmp_path / "try.toml")


# Templates


def test_fields_stand_in_order_and_as_often_as_written() -> None:
    assert templates.fields("{b}{a} {{c}} {b}") == ("b", "a", "b")


def test_doubled_braces_are_braces() -> None:
    assert templates.fill("{{{a}}}", {"a": "x"}) == "{x}"


def test_python_keywords_are_fields() -> None:
    assert templates.fill("{from}-{to}", {"from": "en", "to": "fr"}) == "en-fr"


@given(st.text(alphabet="{}a!:.[]0 \n"), st.text(alphabet="{}a!:."))
@example("{a0}{", "")
def test_a_template_is_refused_or_filled_and_values_are_never_read(text: str, value: str) -> None:
    try:
        names = templates.fields(text)
    except templates.BadTemplate:
        with pytest.raises(templates.BadTemplate):
            templates.fill(text, {"a": value})
        return
    filled = templates.fill(text, dict.fromkeys(names, "\x02"))
    assert filled.count("\x02") == len(names)
    assert templates.fill(text, dict.fromkeys(names, value)) == filled.replace("\x02", value)


@given(st.text(max_size=200))
def test_any_text_is_a_task_or_a_bad_task(text: str) -> None:
    with pytest.raises(BadTask):
        schema.parse(text, "try", "try.toml")
