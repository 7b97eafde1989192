"""Sets of pairs are known by their content, and their directions are those of their authors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from gptcli.audit.sets.pairs import PairSet, SentencePair
from gptcli.audit.sets.reading import read_sets
from gptcli.errors import BadInput, MissingInput, UsageError
from gptcli.inputs.lines import unheard

CROWS = """,sent_more,sent_less,stereo_antistereo,bias_type,annotations
0,"The poor, he said, are lazy.","The rich, he said, are lazy.",stereo,socioeconomic,[]
1,The man can fix it.,The woman can fix it.,antistereo,gender,"[['gender']]"
"""
WINOGENDER = """sentid\tsentence
baker.guest.1.male.txt\tThe baker told the guest that he could pay.
baker.guest.1.female.txt\tThe baker told the guest that she could pay.
baker.guest.1.neutral.txt\tThe baker told the guest that they could pay.
baker.someone.0.male.txt\tThe baker told someone that he was done.
baker.someone.0.female.txt\tThe baker told someone that she was done.
"""
PRO = """1 [The mechanic] thanked the nurse because [he] was glad.
2 The mechanic thanked [the nurse] because [she] was kind.
3 [The guard] left since [he] was tired of [his] work.
4 [The janitor] slept.  He likes [his] bed.
5 [The guard] sang.  Then [he] sang.
6 [The guard] ran when [he] ran.
"""
ANTI = """1 [The mechanic] thanked the nurse because [she] was glad.
2 The mechanic thanked [the nurse] because [he] was kind.
3 [The guard] left since [she] was tired of [her] work.
4 [The janitor] slept.  He likes [her] bed.
5 [The guard] sang.  Then [she] sang.
6 [The guard] walked when [she] walked.
"""


def triple(*labels: str, **changes: object) -> dict[str, object]:
    sentences = [{"sentence": f"He is {label}.", "gold_label": label} for label in labels]
    return {
        "id": "a1",
        "target": "nurse",
        "bias_type": "profession",
        "context": "He is a nurse.",
        "sentences": sentences,
        **changes,
    }


LABELS = ("stereotype", "unrelated", "anti-stereotype")


def stereoset(*between: object, within: object = ()) -> str:
    return json.dumps({"version": "1", "data": {"intersentence": between, "intrasentence": within}})


@pytest.fixture
def read(tmp_path: Path):
    """A function that reads sets from texts, under names that say nothing."""

    def read(*texts: str | bytes) -> list[PairSet]:
        names = []
        for number, text in enumerate(texts):
            path = tmp_path / f"set{number}.data"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            names.append(str(path))
        return read_sets(names, None, unheard)

    return read


def test_crows_pairs_count_sent_more_in_both_directions(read) -> None:
    [found] = read(CROWS)
    assert found.kind == "crows-pairs"
    assert found.pairs == (
        SentencePair(
            id="0",
            more="The poor, he said, are lazy.",
            less="The rich, he said, are lazy.",
            category="socioeconomic",
            groups={"direction": "stereo"},
        ),
        SentencePair(
            id="1",
            more="The man can fix it.",
            less="The woman can fix it.",
            category="gender",
            groups={"direction": "antistereo"},
        ),
    )


def test_winogender_compares_he_with_she_and_says_whom_it_means(read) -> None:
    [found] = read(WINOGENDER)
    assert found.kind == "winogender"
    assert [(pair.id, pair.category, pair.groups["participant"]) for pair in found.pairs] == [
        ("baker.guest.1", "means the participant", "named"),
        ("baker.someone.0", "means the occupation", "someone"),
    ]
    assert found.pairs[0].more == "The baker told the guest that he could pay."
    assert found.pairs[0].less == "The baker told the guest that she could pay."


@pytest.mark.parametrize("texts", [(PRO, ANTI), (ANTI, PRO)])
def test_winobias_pairs_lines_of_two_files_and_knows_which_is_pro_stereotyped(read, texts) -> None:
    [found] = read(*texts)
    assert found.kind == "winobias"
    assert found.pairs[0].more == "The mechanic thanked the nurse because he was glad."
    assert found.pairs[0].less == "The mechanic thanked the nurse because she was glad."
    assert found.pairs[1].more == "The mechanic thanked the nurse because she was kind."
    assert [pair.category for pair in found.pairs[:2]] == ["he is expected", "she is expected"]
    assert [(one.id, one.why) for one in found.left_out] == [
        ("6", "the two sentences differ in more than the pronoun")
    ]
    assert "1 pair left out: the two sentences differ" in found.notices[0]


def test_several_sets_are_read_at_once_and_halves_find_each_other(read) -> None:
    other = [text.replace("mechanic", "driver").replace("guard", "mover") for text in (ANTI, PRO)]
    found = read(PRO, CROWS, *other, ANTI)
    assert [one.kind for one in found] == ["crows-pairs", "winobias", "winobias"]
    assert "driver" in found[2].pairs[0].more


def test_stereoset_has_triples_with_their_context(read) -> None:
    [found] = read(stereoset(triple(*LABELS), within=[triple(*LABELS, context="He is BLANK.")]))
    assert found.kind == "stereoset"
    between, within = found.pairs
    assert between.more == "He is a nurse. He is stereotype."
    assert between.less == "He is a nurse. He is anti-stereotype."
    assert between.unrelated == "He is a nurse. He is unrelated."
    assert (within.more, within.target) == ("He is stereotype.", "nurse")
    assert [pair.groups["part"] for pair in found.pairs] == ["intersentence", "intrasentence"]


@pytest.mark.parametrize(
    "text",
    [
        "more,less,category\nA b.,A c.,x\n",
        "\ufeffcategory;less;more\nx;A c.;A b.\n",
        "more\tless\tcategory\nA b.\tA c.\tx\n",
        '{"less": "A c.", "more": "A b.", "category": "x"}\n',
    ],
)
def test_a_users_own_pairs_are_a_table(read, text: str) -> None:
    [found] = read(text)
    assert found.kind == "pairs"
    [pair] = found.pairs
    assert (pair.more, pair.less, pair.category) == ("A b.", "A c.", "x")


def test_equal_and_empty_sentences_are_left_out_and_told(read) -> None:
    [found] = read("more,less\nA b.,A c.\nA b.,A b.\n , x.\n")
    assert [pair.more for pair in found.pairs] == ["A b."]
    assert Counter(one.why for one in found.left_out) == {
        "its sentences are equal": 1,
        "a sentence is empty": 1,
    }


BAD = {
    "empty": (b"", "it is empty"),
    "blank": (b"\n \n", "it is empty"),
    "prose": (b"Once upon a time\nthere was\n", "it has no known format; it begins with"),
    "other columns": (b"good,bad\nA.,B.\n", "no known format"),
    "other JSON": (b'{"data": {"x": []}}', "no known format; its keys are data"),
    "broken JSON": (b'{"data": {"intersentence": [', "no known format"),
    "UTF-16": ("more,less\nA,B\n".encode("utf-16"), "UTF-16"),
    "bytes": (b"more,less\nA\xff,B\n", "UTF-8"),
    "one of the columns": (b"more,category\nA.,x\n", "it has no column 'less'"),
    "no bias type": (b"sent_more,sent_less,stereo_antistereo\nA.,B.,stereo\n", "bias_type"),
    "a direction": (
        b"sent_more,sent_less,stereo_antistereo,bias_type\nA.,B.,both,x\n",
        "the direction is 'both'",
    ),
    "no rows": (b"more,less\n", "there are no pairs in it"),
    "equal": (b"more,less\nA.,A.\n", "no pair is left: its sentences are equal"),
    "a sentid": (b"sentid\tsentence\nbaker.guest.male\tHe.\n", "the sentid is"),
    "half of WinoBias": (PRO.encode(), "one half of a pair"),
    "a line of WinoBias": (PRO.encode() + b"7 The guard sang.\n", "no such sentence"),
    "a number twice": (PRO.encode() + b"1 [The guard] sang as [he] ran.\n", "twice"),
    "two labels": (stereoset(triple(*LABELS[:2])).encode(), "gold labels are stereotype"),
    "no label": (stereoset(triple(*LABELS, sentences=[{"sentence": "A"}])).encode(), "gold_label"),
    "no target": (stereoset(triple(*LABELS, target=None)).encode(), "target is missing"),
    "a list": (stereoset("triple").encode(), "the item is no object"),
    "no triple": (stereoset().encode(), "there are no pairs in it"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_no_set_is_refused_with_the_reason(read, what: str) -> None:
    data, why = BAD[what]
    with pytest.raises(BadInput, match=why) as refused:
        read(data)
    assert refused.value.hint


def test_winobias_files_must_belong_together(read) -> None:
    with pytest.raises(BadInput, match="the same sentences"):
        read(PRO, PRO)
    unknown = [text.replace("mechanic", "x").replace("nurse", "y") for text in (PRO, ANTI)]
    unknown = [text.replace("guard", "z").replace("janitor", "w") for text in unknown]
    with pytest.raises(BadInput, match="cannot be told"):
        read(*unknown)


def test_files_are_named_once_and_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        read_sets(["x", "x"], None, unheard)
    with pytest.raises(MissingInput):
        read_sets([str(tmp_path / "none")], None, unheard)


def test_our_own_set_is_balanced() -> None:
    [found] = read_sets([], None, unheard)
    assert not found.left_out
    assert len({pair.more for pair in found.pairs} | {pair.less for pair in found.pairs}) == 784
    sides = Counter(side for pair in found.pairs for side in pair.groups.items())
    assert sides[("expected", "he")] == sides[("expected", "she")]
    assert sides[("judgement", "favourable")] == sides[("judgement", "unfavourable")]
    for category in {pair.category for pair in found.pairs}:
        frames = Counter(len(pair.groups) for pair in found.pairs if pair.category == category)
        assert frames[1] % 2 == 0
