"""Tasks in other languages: which language a prompt is in, and what comes with it."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from support.fake_engine import INFO, FakeEngine
from support.small_tokenizers import chinese, chinese_raw, japanese, put_chinese

from gptcli.checkpoints.tokenization.language import language_of
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadTask, UsageError
from gptcli.options import Sampling
from gptcli.protocol import Chunk, GenerateRequest
from gptcli.tasks.answers import Answer, AnswerChunk, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import chosen
from gptcli.tasks.definition.schema import parse
from gptcli.tasks.definition.task import Task, Value
from gptcli.tasks.prompts import Wording, worded
from gptcli.tasks.run_context import prepared
from gptcli.tasks.solver import solve

FILE = """
description = "Say it."
prompt = "{examples}Say ({how}): {input}\\nSaid:"
example = "Say: {input}\\nSaid: {output}\\n"
examples = [{ input = "a", output = "b" }]
stop = ["\\n"]
[options]
how = { type = "choice", help = "How.", choices = ["loud", "low"], default = "loud" }
labels = { type = "list", help = "Which.", default = ["good", "bad"] }
[answer]
kind = "line"
abstain = "unknown"
[languages.zh]
prompt = "{examples}说（{how}）：{input}\\n答："
example = "说：{input}\\n答：{output}。"
stop = ["。"]
listing = "、"
answer = { abstain = "不知道" }
defaults = { labels = ["好", "坏"] }
names = { loud = "大声" }
"""


def engine(tokenizer=None, reply=None) -> FakeEngine:
    info = replace(INFO, context=2000, folder=Path() if tokenizer else None)
    return FakeEngine(tokenizer=tokenizer, info=info, asked=[], reply=reply or (lambda _: " x"))


def built_in(name: str, *examples: str, **given: object) -> Wording:
    found = catalog.find(name)
    options = {name.removesuffix("_"): value for name, value in given.items()}
    return worded(found, chosen(found, options), examples)


def prompt(name: str, tokenizer, text: str = "你好", **given: object) -> str:
    return prepared(engine(tokenizer), built_in(name, **given), Sampling()).wording.text(text)


def answers(engine: FakeEngine, wording: Wording, *texts: str) -> list[Answer]:
    questions = (Question(str(number), text) for number, text in enumerate(texts))
    found = solve(engine, wording, questions, Sampling(seed=1))
    return [event for event in found if isinstance(event, Answer)]


# Which language


def test_the_vocabulary_tells_the_language(tales: Path) -> None:
    assert language_of(chinese()) == "zh"
    assert language_of(japanese()) == "ja"
    assert language_of(load_tokenizer(tales)) is None


def test_a_server_is_not_asked_for_its_vocabulary() -> None:
    class Server(FakeEngine):
        @property
        def tokenizer(self) -> None:
            raise AssertionError

        @tokenizer.setter
        def tokenizer(self, value: object) -> None:
            pass

    assert prepared(Server(info=INFO), built_in("summarize"), Sampling()).wording.text("x") == (
        "x\nTL;DR:"
    )


def test_the_prompt_is_in_the_language_of_the_model(tales: Path) -> None:
    assert prompt("summarize", chinese()) == "你好\n总结："
    assert prompt("summarize", japanese()) == "你好\n要約："
    assert prompt("summarize", load_tokenizer(tales)) == "你好\nTL;DR:"
    assert prompt("summarize", None) == "你好\nTL;DR:"


def test_a_user_chooses_another_language(tales: Path) -> None:
    assert prompt("summarize", chinese(), language="en") == "你好\nTL;DR:"
    assert prompt("summarize", load_tokenizer(tales), language="ko") == "你好\n요약:"


def test_a_task_without_a_prompt_in_the_models_language_keeps_its_own() -> None:
    task = parse('description = "d"\nprompt = "say {input}"\n', "mine", "mine.toml")
    wording = prepared(engine(chinese()), worded(task, {}), Sampling()).wording
    assert wording.text("你好") == "say 你好"


def test_a_text_unlike_the_prompt_is_said_once_a_run_and_only_where_nobody_chose(
    tales: Path,
) -> None:
    model = engine(load_tokenizer(tales))
    [answer] = answers(model, built_in("summarize"), "春天来了，花开了。")
    assert answer.notices == ("the text seems to be Chinese, the prompt is not: see --language zh",)
    for wording in (built_in("summarize", language="en"), built_in("code")):
        assert answers(model, wording, "春天来了，花开了。")[0].notices == ()
    assert answers(model, built_in("summarize"), "Spring.")[0].notices == ()
    assert answers(engine(chinese()), built_in("summarize"), "Spring.")[0].notices == ()


# What comes with it


@pytest.mark.parametrize(
    ("name", "language"),
    [
        *product(["answer", "classify", "summarize", "translate"], ["zh", "ja", "ko"]),
        *product(["extract"], ["zh", "ja"]),
    ],
)
def test_every_built_in_task_speaks_other_languages(name: str, language: str) -> None:
    task = catalog.find(name)
    wording = built_in(name, language=language)
    assert wording.prompt == task.languages[language].prompt
    assert len(wording.shots) == len(task.languages[language].examples)
    assert not wording.text("x").endswith(" ")
    assert wording.text("x").isascii() is False


def test_a_prompt_in_chinese_has_chinese_examples() -> None:
    assert prompt("answer", chinese(), "雨是什么？").endswith("答：水星。\n\n问：雨是什么？\n答：")
    assert prompt("answer", chinese(), "x", context="雨。").startswith("雨。\n\n问：x")


def test_languages_are_named_in_the_language_of_the_prompt() -> None:
    found = prompt("translate", chinese(), from_="zh", to="en")
    assert found.startswith("将中文翻译成英语。\n\n原文：早上好，你好吗？\n译文：Good morning")
    assert found.endswith("\n\n原文：你好\n译文：")
    english = prompt("translate", None, from_="zh", to="en")
    assert english.startswith("早上好，你好吗？ = Good morning, how are you?\n")


def test_labels_are_in_the_language_of_the_prompt_unless_given() -> None:
    model = engine(chinese())
    [answer] = answers(model, built_in("classify"), "很好")
    assert model.asked is not None
    assert [label for label, _ in answer.labels or ()] == ["正面", "负面"]
    assert model.asked[-1].choices == ("正面", "负面")
    given = built_in("classify", labels=["positive", "negative"])
    [answer] = answers(model, given, "很好")
    assert [label for label, _ in answer.labels or ()] == ["positive", "negative"]
    assert model.asked[-1].prompt == "文本：很好\n标签："


def test_an_example_counts_in_the_language_that_has_its_label() -> None:
    wording = built_in("classify", "很好 = 正面")
    spoken = prepared(engine(chinese()), wording, Sampling()).wording
    assert spoken.shots[-1] == ("很好", "正面")
    with pytest.raises(UsageError, match="正面"):
        prepared(engine(None), built_in("classify", "很好 = 正面", language="en"), Sampling())
    with pytest.raises(UsageError, match="cooking"):
        built_in("classify", "很好 = cooking")


@pytest.mark.parametrize("text", ["好,坏", "好，坏", "好、坏", " 好 ， 坏 "])
def test_a_list_is_set_apart_by_commas_of_any_width(text: str) -> None:
    assert built_in("classify", labels=text).parameter("labels") == ("好", "坏")


def test_an_example_may_have_a_wide_sign_between_its_parts() -> None:
    assert built_in("answer", "天是什么颜色？＝蓝色").shots[-1] == ("天是什么颜色？", "蓝色")
    assert built_in("answer", "1＝1 = 对").shots[-1] == ("1＝1", "对")


def test_a_label_follows_the_prompt_as_in_the_examples() -> None:
    for language, choices in {
        "en": (" positive", " negative"),
        "zh": ("正面", "负面"),
        "ja": ("肯定", "否定"),
        "ko": (" 긍정", " 부정"),
    }.items():
        model = engine()
        answers(model, built_in("classify", language=language), "x")
        assert model.asked is not None
        assert [request.choices for request in model.asked] == [choices] * 4


@pytest.mark.parametrize(
    ("closing", "example", "expected"),
    [
        ("Label:", "", " a"),
        ("标签：", "", "a"),
        ("Label: ", "", "a"),
        ("Label:", "{input} Label:{output}\n", "a"),
        ("Label:", "{input} Label:\n{output}\n", "\na"),
        ("Label:", "{input} other {output}\n", " a"),
    ],
)
def test_where_no_example_shows_it_a_space_stands_between_words(
    closing: str, example: str, expected: str
) -> None:
    examples = "{examples}" if example else ""
    text = f'description = "d"\nprompt = """{examples}{{input}} {closing}"""\n'
    text += f"example = {json.dumps(example)}\n" if example else ""
    text += '[answer]\nkind = "labels"\nlabels = ["a", "b"]\n'
    model = engine()
    answers(model, worded(parse(text, "mine", "mine.toml"), {}), "x")
    assert model.asked is not None
    assert model.asked[-1].choices[0] == expected


def test_labels_that_a_model_cannot_tell_apart_are_named(make_tiny, main_in) -> None:
    raw = chinese_raw()
    folder = put_chinese(make_tiny(vocab_size=raw.get_vocab_size(), n_positions=256))
    code, out, err = main_in("classify", "-m", str(folder), "--labels", "鱀,鱁,正面", "很好")
    assert (code, out) == (0, f"{out.strip()}\n")
    assert "鱀 and 鱁 are the same to the model" in err
    assert "正面 are" not in err


def test_an_answer_ends_at_the_next_question_without_a_line_break() -> None:
    wording = built_in("answer", language="zh")
    stop = wording.task.stop
    assert {"问：", "。", "[SEP]"} <= set(stop)
    model = engine()
    answers(model, wording, "x")
    assert model.asked is not None
    request = model.asked[-1]
    assert isinstance(request, GenerateRequest)
    assert request.sampling.stop == stop


# Joined answers


def test_sentences_translated_into_english_are_set_apart_and_into_chinese_are_not() -> None:
    replies = {"好": "Good.", "坏": "Bad.", "Fine": "很好。", "Poor": "很坏。"}

    def reply(request: GenerateRequest) -> str:
        asked = request.prompt.rpartition("原文：")[2].partition("\n")[0].rstrip("。.")
        return replies[asked]

    model = engine(chinese(), reply)
    given = built_in("translate", from_="zh", to="en")
    assert [answer.text for answer in answers(model, given, "好。坏。\n好。")] == [
        "Good. Bad.\nGood."
    ]
    given = built_in("translate", from_="en", to="zh")
    found = list(solve(model, given, [Question("0", "Fine. Poor.\n\nFine.")], Sampling()))
    *pieces, answer = found
    assert isinstance(answer, Answer)
    assert answer.text == "很好。很坏。\n\n很好。"
    chunks = [piece.text for piece in pieces if isinstance(piece, AnswerChunk | Chunk)]
    assert "".join(chunks) == answer.text


# Files


def test_a_file_has_a_prompt_for_each_language() -> None:
    task = parse(FILE, "mine", "mine.toml")
    assert [option.name for option in task.options] == ["how", "labels", "language"]
    assert task.options[-1].choices == ("auto", "en", "zh")
    wording = worded(task, chosen(task, {"language": "zh"}))
    assert wording.text("甲") == "说：a\n答：b。说（大声）：甲\n答："
    assert wording.task.stop == ("。",)
    assert wording.parameter("abstain") == "不知道"
    assert wording.chosen["labels"] == ("好", "坏")
    assert worded(task, chosen(task, {})).chosen["labels"] == ("good", "bad")


def test_the_language_of_the_file_itself_has_a_name() -> None:
    task = parse('language = "fr"\n' + FILE, "mine", "mine.toml")
    assert task.options[-1].choices == ("auto", "fr", "zh")
    assert worded(task, chosen(task, {"language": "fr"})).text("x").startswith("Say")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("[languages.zh]", "[languages.zh]\nhelp = 'x'", "[languages.zh] help: there is no"),
        ("[languages.zh]", "[languages.Chinese]", "'Chinese' is no language"),
        ("[languages.zh]", "[languages.auto]", "'auto' is no language"),
        ("[languages.zh]", "[languages.en]", "the language of the file's own prompt"),
        ("{how}）：{input}", "{how}）：", "[languages.zh] prompt: it must hold {input}"),
        ('example = "说：{input}\\n答：{output}。"\n', "", "[languages.zh] example: it is missing"),
        ('labels = ["好", "坏"]', "labels = 3", "[languages.zh.defaults] labels: it is not a list"),
        ('labels = ["好", "坏"]', 'mood = "x"', "[languages.zh.defaults] mood: there is no such"),
        ('abstain = "不知道"', "abstain = 1", "[languages.zh.answer] abstain: it is not a text"),
        ('loud = "大声"', "loud = 1", "[languages.zh.names] loud: it is a whole number"),
        ('loud = "大声"', 'loud = "a\\nb"', "[languages.zh.names] loud: a name is one line"),
        ("how = {", "language = {", "[options] language: the name is taken"),
        ('description = "Say it."', 'description = "d"\nlanguage = 1', "language: it is a whole"),
    ],
)
def test_what_a_language_cannot_be_is_named(old: str, new: str, rule: str) -> None:
    text = FILE.replace("{how}", "{input}") if "language = {" in new else FILE
    with pytest.raises(BadTask) as caught:
        parse(text.replace(old, new, 1), "mine", "mine.toml")
    assert rule in str(caught.value)


def test_the_skeleton_shows_another_language() -> None:
    head, _, tail = catalog.SKELETON.read_text("utf-8").partition("# [languages.zh]")
    text = head + "[languages.zh]" + tail.replace("\n# ", "\n")
    wording = prepared(engine(chinese()), worded(*_asked(text)), Sampling()).wording
    assert wording.text("我累了").startswith("句子：我饿了\n换句话说：")
    assert wording.chosen["tone"] == "生动"


def _asked(text: str) -> tuple[Task, dict[str, Value]]:
    task = parse(text, "mine", "mine.toml")
    return task, chosen(task, {})


# The command line


def test_a_conversation_with_a_chinese_model_is_in_chinese(make_tiny, main_in) -> None:
    folder = put_chinese(make_tiny(vocab_size=chinese_raw().get_vocab_size(), n_positions=256))
    asked = ["chat", "-m", str(folder), "--seed", "1", "--max-new-tokens", "4"]
    code, out, err = main_in(*asked, stdin="你好\n再见\n/show\n".encode())
    assert code == 0
    assert len(out.splitlines()) == 2
    assert err.count("用户: ") == err.count("助手: ") == 2
    assert "Human" not in main_in(*asked, "--language", "en", stdin=b"a\n/show\n")[1]
    assert "Human: a" in main_in(*asked, "--language", "en", stdin=b"a\n/show\n")[2]


def test_the_language_comes_from_the_flag_the_environment_or_the_configuration(
    main_in, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def asked(*args: str) -> str:
        code, out, _ = main_in("summarize", "--dry-run", "-m", "tiny-tales", *args, "你好")
        assert code == 0
        return out

    assert asked() == "你好\nTL;DR:\n"
    assert asked("--language", "zh") == "你好\n总结：\n"
    config = tmp_path / "config.toml"
    config.write_text('language = "ja"\n')
    assert asked("--config", str(config)) == "你好\n要約：\n"
    monkeypatch.setenv("GPTCLI_LANGUAGE", "zh")
    assert asked("--config", str(config)) == "你好\n总结：\n"


@pytest.mark.parametrize(
    "args",
    [
        ["summarize", "你好。狐狸在河边。"],
        ["answer", "狐狸在哪里？", "--context", "狐狸在森林。"],
        ["translate", "你好。", "--from", "zh", "--to", "en"],
        ["classify", "很好。"],
        ["extract", "狐狸在北京。"],
    ],
    ids=lambda args: args[0],
)
def test_tasks_run_in_chinese_on_a_model_with_a_vocabulary_of_berts_kind(
    args: list[str], make_tiny, main_in
) -> None:
    raw = chinese_raw()
    folder = put_chinese(make_tiny(vocab_size=raw.get_vocab_size(), n_positions=256))
    code, out, err = main_in(*args, "-m", str(folder), "--json", "--seed", "1")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["error"] is None
    assert "[SEP]" not in answer["text"]
    if args[0] == "classify":
        assert answer["text"] in ("正面", "负面")
        assert sum(answer["labels"].values()) == pytest.approx(1)
