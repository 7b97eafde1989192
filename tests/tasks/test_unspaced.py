"""Sentences, passages and names in Chinese and Japanese, where no space parts words."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.system.text.sentences import borders, sentences
from gptcli.tasks.text.joining import between
from gptcli.tasks.text.parsers import first_sentences
from gptcli.tasks.text.passages import best_window, passages
from gptcli.tasks.text.spans import entities

WILD = st.text(alphabet='他说道着a1 \n\t。！？….!?．”」"“「，、', max_size=30)


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["春天来了。", "花开了！", "你看见了吗？", "看见了"],
        ["太好了！！！", "真的吗？！", "真的。"],
        ["他说：“你好。”", "然后他走了。"],
        ["“你好。”他说。", "她笑了。"],
        ["「行こう。」と彼は言った。", "彼女は笑った。"],
        ["「行こう。」って言った。", "そうか。"],
        ["“走吧！”小明喊道。", "我们走了。"],
        ['他说："你好。"', "然后走了。"],
        ["他走了。", '"再见。"', "门关了。"],
        ["他说……然后走了。", "天黑了……"],
        ["“我不知道……”", "天黑了。"],
        ["圆周率是3.14。", "用Node.js写的。", "第1.2节。"],
        ["圆周率是３．１４。", "对。"],
        ["今天很好.", "明天也好!", "你呢?", "我很好"],
        ["他（见图1。）", "走了。"],
        ["第一；第二，第三：完。", "好。"],
        ["今日は。", "明日。"],
        ["これはペンです（赤い。）。", "あれは本です。"],
        ["「はい。」", "「いいえ！」。", "そう。"],
        ["1.第一条。", "2.第二条。"],
    ],
    ids=lambda expected: expected[0],
)
def test_sentences_end_where_a_reader_ends_them(expected: list[str]) -> None:
    assert split("".join(expected)) == expected


def test_a_syllable_of_korean_is_no_initial() -> None:
    assert split("네. 좋아요. 안녕!") == ["네.", "좋아요.", "안녕!"]


def test_wide_spaces_and_line_breaks_part_sentences_too() -> None:
    assert split("　　春天来了。\n　　花开了。　好。") == ["春天来了。", "花开了。", "好。"]


@given(WILD, WILD)
def test_a_certain_border_stays_whatever_follows(text: str, more: str) -> None:
    certain = [border for border in borders(text, finished=False) if border.certain]
    ends = [border.end for border in borders(text + more)][: len(certain)]
    assert ends == [border.end for border in certain]


@given(WILD)
def test_sentences_lose_nothing(text: str) -> None:
    assert "".join("".join(split(text)).split()) == "".join(text.split())


@given(WILD, st.integers(1, 3))
def test_an_answer_only_grows_while_it_is_written(text: str, count: int) -> None:
    read, before = first_sentences(count), ""
    for end in range(len(text) + 1):
        answer, complete = read(text[:end], end == len(text))
        assert answer.startswith(before)
        if complete:
            assert read(text, True)[0] == answer
            break
        before = answer


def test_a_sentence_is_complete_when_the_next_one_begins() -> None:
    assert first_sentences(1)("春天来了。花", False) == ("春天来了。", True)
    assert first_sentences(2)("春天来了。花开了。", False)[1] is False


# Passages


def test_long_text_is_cut_by_whole_sentences() -> None:
    text = "春天来了。花开了。鸟儿在唱歌。我们去公园。"
    cut = [text[start:end] for start, end in passages(text, lambda part: len(part) <= 12)]
    assert cut == ["春天来了。花开了。", "鸟儿在唱歌。我们去公园。"]


def test_a_sentence_that_does_not_fit_is_torn_after_a_comma() -> None:
    text = "春天来了，花开了，鸟儿在唱歌。"
    cut = [text[start:end] for start, end in passages(text, lambda part: len(part) <= 10)]
    assert cut == ["春天来了，花开了，", "鸟儿在唱歌。"]
    assert "".join(text[start:end] for start, end in passages(text, lambda s: len(s) < 3)) == text


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("谁写了红楼梦？", "曹雪芹写了《红楼梦》。"),
        ("中国的首都是哪里？", "北京是中国的首都。"),
        ("富士山の高さは？", "富士山の高さは三千七百七十六メートルです。"),
        ("서울의 인구는 얼마입니까?", "서울에는 인구가 많다."),
    ],
)
def test_the_passage_that_a_question_asks_for_is_found(question: str, found: str) -> None:
    filler = ["今天天气很好。", "小狗在河边跑。", "昨日は雨でした。", "我喜欢吃苹果。"] * 3
    text = "".join([*filler[:7], found, *filler[7:]])
    start, end = best_window(text, question, lambda part: len(part) <= 30)
    assert found in text[start:end]


# Names


@pytest.mark.parametrize(
    "line",
    [
        "王芳（人物），北京（地点）",
        "王芳(人物), 北京(地点)",
        "北京（地点）、王芳（人物）。",
        "王芳（人物）北京（地点）",
        "「王芳」（人物）；北京（ 地点 ）",
        "王芳（人物），伦敦（地点），北京（地点）",
        "上海，王芳（人物），北京（地点）",
    ],
)
def test_names_stand_among_other_characters(line: str) -> None:
    found = entities(line, "昨天王芳住在北京工作。", ("人物", "地点"))
    assert [(item.text, item.type, item.start) for item in found] == [
        ("王芳", "人物", 2),
        ("北京", "地点", 6),
    ]


def test_a_latin_name_may_stand_beside_chinese_but_not_inside_a_word() -> None:
    assert [item.start for item in entities("Tom（人物）", "我是Tom的朋友", ("人物",))] == [2]
    assert entities("Tom（人物）", "我是Tommy的朋友", ("人物",)) == ()


def test_korean_names_keep_their_particles_apart() -> None:
    assert [item.text for item in entities("서울 (곳)", "나는 서울에 산다.", ("곳",))] == ["서울"]


# Joined


@pytest.mark.parametrize(
    ("before", "left", "right", "expected"),
    [
        (" ", "很好。", "很坏。", ""),
        ("", "Good.", "Bad.", " "),
        ("", "好。", "Bad.", ""),
        (" ", "Good.", "Bad.", " "),
        ("\n", "很好。", "很坏。", "\n"),
        ("", "한국.", "좋다.", " "),
        ("", "wo", "rd", ""),
        (" ", "", "很坏。", " "),
        (" ", "很好。", "", " "),
    ],
)
def test_answers_are_joined_as_their_language_is_written(
    before: str, left: str, right: str, expected: str
) -> None:
    assert between(before, left, right) == expected
