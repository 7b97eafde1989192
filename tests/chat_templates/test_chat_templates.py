"""Templates: what a prompt looks like, and that a stranger's template can only make a text."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2.debug  # which jinja2 imports when a template fails
import jinja2.ext
import pytest
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gptcli.chat_templates import EndOfText, Template, Transcript, Turn, choose, transcript
from gptcli.chat_templates.own import find, special_text
from gptcli.chat_templates.sandbox import Program
from gptcli.errors import BadModel, UsageError

ASK = Turn("user", "Hi")
TALK = [ASK, Turn("assistant", "Hello.", " Hello."), Turn("user", "Bye")]
SAY = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
WATCHED = ("os.", "subprocess.", "socket.", "shutil.", "open", "import", "ctypes.")
_watching: list[list[str]] = []


def _record(event: str, args: tuple[object, ...]) -> None:
    if _watching and event.startswith(WATCHED):
        _watching[-1].append(f"{event} {args}")


sys.addaudithook(_record)  # cannot be removed, so it records only inside of `recorded`


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Every file, process, socket and import inside the block."""
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


def own(folder: Path, template: object, **config: object) -> Template:
    """The template of a checkpoint whose tokenizer_config.json holds it."""
    settings = {"eos_token": "</s>", "bos_token": "<s>", "chat_template": template, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return choose("own", folder, "model")


def rule(folder: Path, template: object) -> str:
    """The message of the BadModel that a template ends in, when found or when rendered."""
    with pytest.raises(BadModel) as caught:
        own(folder, template).prompt(None, TALK)
    assert "tokenizer_config.json: " in caught.value.message
    return caught.value.message


# The two of our own


def test_a_transcript_ends_where_the_model_is_to_speak() -> None:
    assert Transcript().prompt("A talk.", [ASK]) == "A talk.\n\nHuman: Hi\nAI:"


def test_a_transcript_has_an_opening_that_names_the_speakers() -> None:
    opening = Transcript("Ann", "Bob").prompt(None, [ASK]).splitlines()[0]
    assert "Ann" in opening
    assert "Bob" in opening


def test_a_transcript_ends_a_reply_where_anybody_speaks() -> None:
    assert Transcript("Ann", "Bob").stop == ("\nAnn:", "\nBob:")


@pytest.mark.parametrize(
    "written", [" Hello.", "Hello.", "  Hello. ", "\nHello.\n", "", " ", "\n\nAI says"]
)
@pytest.mark.parametrize("template", [Transcript(), EndOfText()])
def test_a_prompt_goes_on_where_the_last_reply_ended(template: Template, written: str) -> None:
    reply = Turn("assistant", written.strip(), written)
    before = template.prompt("A talk.", [ASK]) + written
    assert template.prompt("A talk.", [ASK, reply, Turn("user", "Bye")]).startswith(before)


def test_a_reply_of_unknown_form_follows_a_space() -> None:
    turns = [ASK, Turn("assistant", "Hello."), ASK]
    assert "AI: Hello.\nHuman: Hi\nAI:" in Transcript().prompt(None, turns)


def test_turns_end_in_the_end_of_text() -> None:
    turns = [ASK, Turn("assistant", "Hello.", "Hello."), Turn("user", "Bye")]
    assert EndOfText("<e>").prompt(None, turns) == "Hi<e>Hello.<e>Bye<e>"


def test_a_system_text_is_the_first_thing_said_between_ends_of_text() -> None:
    assert EndOfText("<e>").prompt("Be kind.", [ASK]) == "Be kind.<e>Hi<e>"


@pytest.mark.parametrize(("user", "bot"), [("", "AI"), ("a\nb", "AI"), ("Me", " "), ("AI", "AI")])
def test_bad_names_are_refused(user: str, bot: str) -> None:
    with pytest.raises(UsageError):
        Transcript(user, bot)


def test_a_transcript_in_chinese_has_chinese_names_and_no_spaces() -> None:
    turns = [Turn("user", "你好"), Turn("assistant", "你好！"), Turn("user", "再见")]
    spoken = transcript(None, None, "zh")
    expected = "\n\n用户：你好\n助手：你好！\n用户：再见\n助手："
    assert spoken.prompt(None, turns) == "用户与助手的对话。助手很友善，回答简短。" + expected
    assert (
        transcript("小明", "狐狸", "zh").prompt("闲聊。", turns[:1])
        == "闲聊。\n\n小明：你好\n狐狸："
    )


@pytest.mark.parametrize("language", ["zh", "ja", "ko"])
def test_a_reply_ends_at_a_name_also_where_the_vocabulary_has_no_line_break(language: str) -> None:
    spoken = transcript("{bot}", "Bob", language)
    assert {"{bot}:", "Bob:", "[SEP]"} <= set(spoken.stop)
    assert not any(stop.startswith("\n") for stop in spoken.stop)
    assert spoken.prompt(None, [ASK]).count("{bot}") == 2


@pytest.mark.parametrize("language", ["en", "fr", ""])
def test_a_transcript_in_any_other_language_is_the_english_one(language: str) -> None:
    assert transcript(None, None, language) == Transcript()
    assert transcript("Ann", None, language) == Transcript("Ann")


# The choice


def test_a_base_model_gets_a_transcript(tales: Path) -> None:
    assert choose("auto", tales, "tiny-tales").name == "transcript"


@pytest.mark.parametrize("name", ["microsoft/DialoGPT-small", "./my-dialogpt"])
def test_dialogpt_gets_ends_of_text(tales: Path, name: str) -> None:
    assert choose("auto", tales, name) == EndOfText("<|endoftext|>")


def test_a_vocabulary_of_berts_kind_has_its_separator_between_turns(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"sep_token": "[SEP]"}')
    assert choose("eos", tmp_path, "model") == EndOfText("[SEP]", ("[SEP]",))
    (tmp_path / "tokenizer_config.json").write_text('{"sep_token": "[SEP]", "eos_token": "</s>"}')
    assert choose("eos", tmp_path, "model") == EndOfText("</s>")


def test_an_own_template_comes_first(tmp_path: Path) -> None:
    own(tmp_path, SAY)
    assert choose("auto", tmp_path, "microsoft/DialoGPT-small").name == "own"


@pytest.mark.parametrize("asked", ["transcript", "eos"])
def test_a_template_that_is_asked_for_wins(tmp_path: Path, asked: str) -> None:
    own(tmp_path, SAY)
    assert choose(asked, tmp_path, "model").name == asked  # type: ignore[arg-type]


def test_a_broken_own_template_does_not_matter_where_another_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{% if %}")
    assert choose("transcript", tmp_path, "model").name == "transcript"


@pytest.mark.parametrize("folder", [None, "there"])
def test_own_without_one_is_a_usage_error(tmp_path: Path, folder: str | None) -> None:
    with pytest.raises(UsageError, match="brings no chat template"):
        choose("own", tmp_path if folder else None, "model")


def test_without_a_folder_there_is_a_transcript() -> None:
    assert choose("auto", None, "fake").name == "transcript"


# Where an own template stands


def test_the_jinja_file_comes_before_the_others(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text('{"chat_template": "two"}')
    own(tmp_path, "three")
    (tmp_path / "chat_template.jinja").write_text("one")
    assert choose("own", tmp_path, "model").prompt(None, [ASK]) == "one"


def test_the_json_file_comes_before_the_tokenizers(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text('{"chat_template": "two"}')
    assert own(tmp_path, "three").prompt(None, [ASK]) == "two"


def test_of_named_templates_the_default_is_taken(tmp_path: Path) -> None:
    named = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    assert own(tmp_path, named).prompt(None, [ASK]) == "d"


def test_null_is_no_template(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": null}')
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"eos_token": "<e>"}, "<e>"),
        ({"eos_token": {"content": "<e>", "special": True}}, "<e>"),
        ({}, "<|endoftext|>"),
    ],
)
def test_the_end_of_text_is_named_by_the_tokenizer(
    tmp_path: Path, config: object, text: str
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert special_text(tmp_path, "eos_token") == text


def test_an_end_of_text_named_only_by_its_id_is_looked_up(
    tmp_path: Path, tiny_tokenizer_text: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(tiny_tokenizer_text)
    (tmp_path / "config.json").write_text('{"eos_token_id": [5, 6]}')
    assert special_text(tmp_path, "eos_token") != "<|endoftext|>"


# Rendering

TEMPLATES = [
    SAY,
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}"
    "{% endif %}{% if m.role == 'user' %}{{ '[INST] ' ~ m.content | trim ~ ' [/INST]' }}"
    "{% else %}{{ ' ' ~ m.content.strip() ~ eos_token }}{% endif %}{% endfor %}",
    "{%- set ns = namespace(last='', n=0) -%}\n{%- for m in messages if m.content %}\n"
    "  {%- set ns.last = m.content %}{% set ns.n = ns.n + 1 %}\n"
    "  {%- if loop.first and not loop.last %}first {% elif loop.last %}last{% endif %}\n"
    "{%- endfor %}\n{{ ns.n }} {{ ns.last }} {{ messages|tojson }} {{ messages|length }}"
    " {{ messages | map(attribute='role') | join(', ') }} {{ x is defined }} {{ y | default('z') }}"
    " {{ 'a' in 'abc' and messages[0] is mapping }} {{ 2 ** 3 - 1 }} {{ 'a-b'.split('-')[-1] }}"
    " {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 'ab' * 2 }}",
    "{% macro say(who, what='nothing') %}{{ who|upper }}> {{ what }};{% endmacro %}"
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ say(m.role, m.content) }}{% endfor %}"
    "{% for k, v in messages[0].items() %}{{ k }}{% endfor %}"
    "{% set block %}a\nb{% endset %}{{ block|indent(2) }}{{ [1, 2]|reverse|list }}"
    "{{ 'x'.replace('x', 'y').title() }}{% if tools %}tools{% endif %}"
    "{{ messages|tojson(indent=2) }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("system", [None, "Be kind."])
def test_a_template_gives_what_jinja_alone_gives(
    tmp_path: Path, template: str, system: str | None
) -> None:
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    plain.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    plain.globals["raise_exception"] = None
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": turn.role, "content": turn.written or turn.content} for turn in TALK]
    names = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    expected = plain.from_string(template).render(messages=messages, **names)
    assert own(tmp_path, template).prompt(system, TALK) == expected


def test_a_template_that_joins_turns_goes_on_where_the_last_reply_ended(tmp_path: Path) -> None:
    template = own(tmp_path, TEMPLATES[1])
    before = template.prompt("Be kind.", TALK[:1]) + " Hello."
    assert template.prompt("Be kind.", TALK).startswith(before)


def test_marks_for_training_change_nothing(tmp_path: Path) -> None:
    template = own(tmp_path, "a{% generation %}{{ messages[0].content }}{% endgeneration %}b")
    assert template.prompt(None, [ASK]) == "aHib"


def test_the_time_stands_still_during_a_conversation(tmp_path: Path) -> None:
    template = own(tmp_path, "{{ strftime_now('%Y %d %b %H:%M:%S %f') }}")
    first = template.prompt(None, [ASK])
    time.sleep(0.002)
    assert template.prompt(None, [ASK]) == first


def test_a_long_conversation_is_no_runaway(tmp_path: Path) -> None:
    turns = TALK[:2] * 3000 + [ASK]
    assert len(own(tmp_path, TEMPLATES[1]).prompt(None, turns)) > 100_000


# Malformed

MALFORMED = [
    ("{% for %}", "line 1: Expected an expression"),
    ("a\n\n{% if x %}", "line 3: Unexpected end of template"),
    ("{{ 'a' | bogus }}", "No filter named 'bogus'"),
    ("{% bogus %}", "unknown tag 'bogus'"),
    ("{{ bogus() }}", "'bogus' is undefined"),
    ("{{ messages.content.x }}", "has no attribute 'content'"),
    ("{{ messages[0].content.bogus() }}", "has no attribute 'bogus'"),
    ("{{ messages[0].content + 1 }}", "can only concatenate"),
    ("{{ raise_exception('Only two roles\nplease') }}", "Only two roles"),
    ("{{ 1 / 0 }}", "division by zero"),
    ("{{ " + "9" * 5000 + " }}", "integer string conversion"),
    ("{{ '\\ud800' }}", "lone surrogate"),
    ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply"),
    ("{% if 1 %}" * 150 + "{% endif %}" * 150, "nested too deeply"),
    ("{{ strftime_now('%9999999d') }}", "not a format"),
    ("{% if false %}x{% endif %}", "empty prompt"),
    ("  \n ", "the chat template is empty"),
    (5, "neither a text nor a list"),
    ({"default": "x"}, "neither a text nor a list"),
    ([], "named default"),
    ([{"name": "rag", "template": "x"}], "named default"),
    ([{"name": "default"}], "lacks a name or a template"),
    (["default"], "lacks a name or a template"),
    ([{"name": "default", "template": 5}], "neither a text nor a list"),
    ("\ud800", "lone surrogate"),
    ("x" * 70_000, "larger than 65536 bytes"),
]


@pytest.mark.parametrize(("template", "expected"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_template_is_a_bad_model(
    tmp_path: Path, template: object, expected: str
) -> None:
    assert expected in rule(tmp_path, template)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("chat_template.jinja", b"a \xff", "invalid UTF-8 at byte 2"),
        ("chat_template.jinja", b"x" * 70_000, "larger than"),
        ("chat_template.jinja", b"\n", "empty"),
        ("chat_template.json", b'{"chat_template": ', "not JSON"),
        ("chat_template.json", b"{}", "no chat_template"),
        ("tokenizer_config.json", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_file_is_a_bad_model(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadModel, match=f"{name}: .*{expected}"):
        find(tmp_path)


def test_a_folder_in_place_of_a_template_is_a_bad_model(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").mkdir()
    with pytest.raises(BadModel, match="not a regular file"):
        find(tmp_path)


# Escapes

TOUCH = "os.system('touch canary')"
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ messages.__class__.__base__ }}",
    "{{ messages[0].__class__ }}",
    "{{ (1).__class__ }}",
    "{{ (1).real }}",
    "{{ range.__globals__ }}",
    "{{ raise_exception.__globals__." + TOUCH + " }}",
    "{{ raise_exception['__globals__']['__builtins__']['open']('canary', 'w') }}",
    "{{ strftime_now.__self__ }}",
    "{{ strftime_now.__func__.__globals__ }}",
    "{{ namespace.__init__.__globals__." + TOUCH + " }}",
    "{% set ns = namespace() %}{{ ns.__init__.__globals__ }}",
    "{% set ns = namespace() %}{{ ns._Namespace__attrs }}",
    "{{ cycler.__init__.__globals__." + TOUCH + " }}",
    "{{ joiner.__init__.__globals__." + TOUCH + " }}",
    "{{ lipsum.__globals__['os'].system('touch canary') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ messages | attr('__class__') }}",
    "{{ messages | map('attr', '__class__') | list }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages | selectattr('__class__') | list }}",
    "{{ messages | sort(attribute='__class__') }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "{{ '%s' % messages }}",
    "{{ '%s' | format(messages) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ dict.fromkeys('ab') }}",
    "{{ dict.__subclasses__() }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__call__.__func__ }}",
    "{% for m in messages %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% for m in messages %}{{ loop._iterator }}{% endfor %}",
    "{{ nothing.__init__.__globals__ }}",
    "{{ nothing._undefined_exception }}",
    "{{ messages.index.__self__ }}",
    "{% include 'canary' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import system %}",
    "{% extends 'canary' %}",
    "{% block a %}{% endblock %}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ environment.globals }}",
    "{{ ''.join.__self__.__class__ }}",
    "{{ messages | map('upper', __class__=1) | list }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_no_template_gets_out(
    tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own(tmp_path, "{{ 1 }}")  # so that everything is imported
    with recorded() as events, pytest.raises((TemplateError, TypeError, AttributeError)):
        Program(template).render([{"role": "user", "content": "Hi"}], "", "")
    assert events == []
    assert not (tmp_path / "canary").exists()
    rule(tmp_path, template)


def test_what_gets_out_would_be_recorded(tmp_path: Path) -> None:
    with recorded() as events:
        (tmp_path / "x").write_text("")
    assert events


# Runaways

DOUBLED = "{% set n = namespace(x=START) %}{% for i in range(99) %}{% set n.x = STEP %}{% endfor %}"
RUNAWAYS = [
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% for i in range(10 ** 99) %}{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{% for a in 'a' * 999 %}{% for b in 'b' * 999 %}{% for c in 'c' * 999 %}{{ c }}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}" + "x" * 60_000 + "{% endfor %}",
    "{% set a %}{% for i in range(9999) %}" + "x" * 60_000 + "{% endfor %}{% endset %}",
    "{% for i in range(99999) %}{{ ('a' * 99) * 999 }}{% endfor %}",
    "{% for i in range(99999) %}{% if messages.0"
    + " and messages.0" * 90
    + " %}{% endif %}{% endfor %}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ 10 ** 9 * 'a' }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ 2 ** 99999 ** 9 }}",
    DOUBLED.replace("START", "'ab'").replace("STEP", "n.x ~ n.x") + "{{ n.x }}",
    DOUBLED.replace("START", "'ab'").replace("STEP", "n.x + n.x") + "{{ n.x }}",
    DOUBLED.replace("START", "[1]").replace("STEP", "n.x + n.x") + "{{ n.x|length }}",
    DOUBLED.replace("START", "[1]").replace("STEP", "[n.x, n.x]") + "{{ n.x }}",
    DOUBLED.replace("START", "{}").replace("STEP", "{'a': n.x, 'b': n.x}") + "{{ n.x|tojson }}",
    DOUBLED.replace("START", "1").replace("STEP", "(n.x, n.x)") + "{{ n.x == n.x }}",
    DOUBLED.replace("START", "99").replace("STEP", "n.x * n.x") + "{{ n.x }}",
    DOUBLED.replace("START", "'ab'").replace("STEP", "n.x.replace('a', n.x)") + "{{ n.x }}",
    DOUBLED.replace("START", "'ab'").replace("STEP", "n.x.join([n.x, n.x])") + "{{ n.x }}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{{ ('a' * 999)|replace('a', 'a' * 999)|replace('a', 'a' * 999) }}",
    "{{ ['a'] * 9999 | join('b' * 99999) }}",
    "{{ ('a\\n' * 9999)|indent(999) }}",
    "{{ 'a\\nb'|indent(10 ** 9) }}",
    "{{ messages|tojson(indent=10 ** 9) }}",
    "{{ ('a' * 99999).strip('b' * 99999) }}",
    "{{ ('a' * 99999)|trim('b' * 99999) }}",
    "{{ range(999999)|list }}",
    "{{ [[1] * 400] * 400 == [[1] * 400] * 400 }}",
    "{{ " + "+".join(["1"] * 30_000) + " }}",
    "{% if 1 %}" + "{% elif 1 %}" * 5000 + "{% endif %}",
]


@pytest.mark.parametrize("template", RUNAWAYS, ids=range(len(RUNAWAYS)))
def test_a_runaway_ends_soon(tmp_path: Path, template: str) -> None:
    started = time.process_time()
    rule(tmp_path, template)
    assert time.process_time() - started < 2
