"""Bias, its change and toxicity, on scores that a test names."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import ClassVar

import pytest
from support.fake_engine import INFO, FakeEngine

from gptcli.audit.bias import bias_rows, icat, stereo_scores
from gptcli.audit.comparison import changes
from gptcli.audit.judges import Judgement, TextJudge, judge_of
from gptcli.audit.options import JudgedBy
from gptcli.audit.prompts import AuditPrompt, read_prompts
from gptcli.audit.scores import ScoredPair, ScoredSet, Sentence, scored_sets
from gptcli.audit.sets.pairs import PairSet, SentencePair, made
from gptcli.audit.toxicity import judged, toxicity_rows
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadInput
from gptcli.inputs.lines import unheard
from gptcli.options import Load, Sampling
from gptcli.options.moderation import ModeratedLoad
from gptcli.protocol import GenerateRequest
from gptcli.scoring.options import Scoring


def pair(id: str = "1", category: str = "", **changes: object) -> SentencePair:
    found = SentencePair(id=id, more=f"more {id}", less=f"less {id}", category=category)
    return replace(found, **changes)


def scored(
    more: float, less: float, unrelated: float | None = None, tokens: int = 4, **changes: object
) -> ScoredPair:
    third = None if unrelated is None else Sentence(unrelated, 4, 4)
    return ScoredPair(
        pair(unrelated=None if third is None else "x", **changes),
        Sentence(more, tokens, tokens),
        Sentence(less, 4, 4),
        third,
    )


def scored_set(*pairs: ScoredPair) -> ScoredSet:
    found = PairSet(kind="pairs", name="mine", sha256={}, pairs=tuple(one.pair for one in pairs))
    return ScoredSet(found, pairs, {})


def test_a_share_counts_the_likelier_sentence_and_half_a_tie() -> None:
    [row] = bias_rows([scored_set(scored(-5, -6), scored(-6, -5), scored(-5, -5.00001))], 0)
    assert (row.by, row.pairs, row.preferred, row.ties) == ("all", 3, 1.5, 1)
    assert row.share.value == 0.5
    assert row.difference.value == pytest.approx(0.00001 / 3)
    assert row.lengths_differ == 0


def test_lengths_are_told_and_the_share_by_the_mean_of_tokens() -> None:
    longer = scored(-8, -6, tokens=8)  # less likely as a whole, likelier for each token
    [row] = bias_rows([scored_set(longer)], 0)
    assert (row.share.value, row.share_per_token.value, row.lengths_differ) == (0.0, 1.0, 1)


def test_a_set_is_divided_by_category_and_by_further_divisions() -> None:
    pairs = [
        scored(-5, -6, category="a", groups={"direction": "stereo"}),
        scored(-5, -6, category="b", groups={"direction": "antistereo"}),
        scored(-6, -5, category="a", groups={"direction": "stereo"}),
    ]
    rows = bias_rows([scored_set(*pairs)], 0)
    assert [(row.by, row.category, row.pairs, row.preferred) for row in rows] == [
        ("all", "all", 3, 2.0),
        ("category", "a", 2, 1.0),
        ("category", "b", 1, 1.0),
        ("direction", "stereo", 2, 1.0),
        ("direction", "antistereo", 1, 1.0),
    ]


def test_stereosets_scores_are_means_over_terms() -> None:
    found = stereo_scores(
        [
            scored(-1, -2, -3, target="nurse"),  # both related, stereotype
            scored(-1, -4, -3, target="nurse"),  # one related, stereotype
            scored(-2, -1, -3, target="baker"),  # both related, anti-stereotype
        ],
        "0",
    )
    assert found.language_model.value == pytest.approx((75 + 100) / 2)
    assert found.stereotype.value == pytest.approx(50)
    assert found.icat.value == pytest.approx(87.5)
    assert found.icat.low is not None
    assert found.icat.low <= found.icat.value


@pytest.mark.parametrize(
    ("model", "stereotype", "wanted"),
    [(100, 50, 100), (100, 100, 0), (100, 0, 0), (50, 50, 50), (80, 60, 64)],
)
def test_icat_is_that_of_the_paper(model: float, stereotype: float, wanted: float) -> None:
    assert icat(model, stereotype) == pytest.approx(wanted)


def test_one_term_has_no_interval() -> None:
    found = stereo_scores([scored(-1, -2, -3, target="nurse")], "0")
    assert found.icat.low is None
    assert found.icat.high is None


@pytest.fixture(scope="module")
def engine(tales: Path) -> FakeEngine:
    """Likelier the shorter; a context of 64 tokens."""
    return FakeEngine(tokenizer=load_tokenizer(tales))


def test_a_sentence_is_scored_once_however_often_it_stands_there(engine: FakeEngine) -> None:
    asked = replace(engine, asked=[])
    pairs = [pair("1", more="A b.", less="A c."), pair("2", more="A b.", less="A d.")]
    [found] = scored_sets(asked, [made("pairs", "mine", {}, pairs)], Scoring(), 4)
    assert asked.asked is not None
    assert len(asked.asked) == 3
    assert found.pairs[0].more == found.pairs[1].more


def test_a_sentence_beyond_the_context_is_an_error_of_its_pair(engine: FakeEngine) -> None:
    long = "A b. " * 40
    pairs = [pair("1", more="A b.", less=long), pair("2", more="A b.", less="A c.")]
    [found] = scored_sets(engine, [made("pairs", "mine", {}, pairs)], Scoring(), 4)
    assert [one.pair.id for one in found.pairs] == ["2"]
    assert re.search("too long: it has .* the context of fake is 64", str(found.errors["1"]))
    with pytest.raises(BadInput, match="too long"):
        scored_sets(engine, [made("pairs", "mine", {}, pairs[:1])], Scoring(), 4)


def test_a_sentence_that_fills_the_context_is_scored(engine: FakeEngine) -> None:
    tokens = engine.tokenizer.encode("the " * 80, bare=True)[:63]
    full = engine.tokenizer.decode(tokens)
    assert len(engine.tokenizer.encode(full, bare=True)) == 63
    pairs = [pair("1", more=full, less="A c.")]
    [found] = scored_sets(engine, [made("pairs", "mine", {}, pairs)], Scoring(), 4)
    assert found.pairs[0].more.scored == 63


def test_a_change_is_counted_pair_by_pair() -> None:
    one = [scored(-5, -6), scored(-5, -6), scored(-6, -5), scored(-5, -6)]
    other = [ScoredPair(it.pair, Sentence(-7, 4, 4), it.less) for it in one[:2]]
    other += [ScoredPair(one[2].pair, Sentence(-4, 4, 4), one[2].less), one[3]]
    [row] = changes([scored_set(*one)], [scored_set(*other)], 0)
    assert (row.first, row.second, row.change.value) == (0.75, 0.5, -0.25)
    assert (row.only_first, row.only_second) == (2, 1)
    assert row.p_share == 1.0
    assert row.difference.value == pytest.approx((-2 - 2 + 2 + 0) / 4)
    assert row.p_difference == 1.0  # each of the 16 ways is as far from 0


def test_several_comparisons_are_adjusted_together() -> None:
    one = [scored(-5, -6, category=name) for name, _ in zip(cycle("ab"), range(20), strict=False)]
    other = [ScoredPair(it.pair, Sentence(-7, 4, 4), it.less) for it in one]
    rows = changes([scored_set(*one)], [scored_set(*other)], 0)
    assert len(rows) == 3
    assert rows[0].p_share == pytest.approx(2 / 2**20)
    assert rows[0].p_share_adjusted == pytest.approx(3 * 2 / 2**20)
    assert rows[1].p_share_adjusted == pytest.approx(2 * 2 / 2**10)


def test_models_without_a_common_pair_cannot_be_compared() -> None:
    with pytest.raises(BadInput, match="both models"):
        changes([scored_set(scored(-1, -2))], [replace(scored_set(scored(-1, -2)), pairs=())], 0)


@pytest.fixture
def wolves(tmp_path: Path) -> TextJudge:
    path = tmp_path / "list.txt"
    path.write_text("# what is looked for\nWolf\nold  witch\n\n")
    return judge_of(ModeratedLoad(filter=(str(path),)))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("the WOLF and the wolf's wolf", 3),
        ("an old\nwitch", 1),
        ("\uff37\uff4f\uff4c\uff46!", 1),
        ("wolfram, werewolf, an old, old man", 0),
        ("", 0),
    ],
)
def test_a_list_finds_whole_words(wolves: TextJudge, text: str, count: int) -> None:
    assert wolves.judge(text) == Judgement(float(count > 0), count)


@pytest.mark.parametrize(
    ("before", "text", "count"),
    [
        ("the", " wolf", 1),
        ("the old", " witch", 1),  # it ends in the text
        ("the wolf", " is", 0),  # it is the prompt's
        ("the were", "wolf", 0),  # no word of its own
        ("wolf " * 500, "a wolf", 1),
    ],
)
def test_a_text_is_judged_as_in_the_filter_behind_its_prompt(
    wolves: TextJudge, before: str, text: str, count: int
) -> None:
    assert wolves.judge(text, before).matches == count


def test_our_list_is_what_is_looked_for_without_another_one(tmp_path: Path) -> None:
    asked = JudgedBy().judges(Load(offline=True))
    assert (asked.filter, asked.offline) == (("basic",), True)
    assert set(judge_of(asked).about["lists"]) == {"basic"}  # type: ignore[call-overload]
    named = JudgedBy(filter=("x",)).judges(Load())
    moderated = JudgedBy(moderator="x", moderator_label=(("a", 0.5),)).judges(Load())
    assert (named.filter, moderated.filter) == (("x",), ())
    path = tmp_path / "empty.txt"
    path.write_text("# nothing\n")
    with pytest.raises(BadInput, match="no phrase"):
        judge_of(ModeratedLoad(filter=(str(path),)))


PROMPTS = {
    "lines": (b"One\nTwo\n\n", ["One", "Two", ""]),
    "json lines": (b'{"prompt": "One"}\n{"text": "x", "prompt": "Two"}\n', ["One", "Two"]),
    "RealToxicityPrompts": (
        b'{"filename": "a", "challenging": false, "prompt": {"text": "One", "toxicity": 0.2},'
        b' "continuation": {"text": "x"}}\n{"prompt": {"text": "Two", "toxicity": 0.9}}\n'
        b'{"prompt": {"text": "Three", "toxicity": NaN}}\n{"prompt": {"text": 3}}\n{"x"\n',
        ["One", "Two", "Three", "", ""],
    ),
}


@pytest.mark.parametrize("what", PROMPTS)
def test_prompts_are_lines_tables_or_objects(tmp_path: Path, what: str) -> None:
    data, wanted = PROMPTS[what]
    path = tmp_path / "prompts"
    path.write_bytes(data)
    found = read_prompts(str(path), None, unheard)
    assert [one.text for one in found.prompts] == wanted
    assert all((one.error is None) == bool(one.text) for one in found.prompts)
    if what == "RealToxicityPrompts":
        sides = ["other prompts", "toxic prompts", "", "", ""]
        assert [one.category for one in found.prompts] == sides


def test_a_sample_of_prompts_is_the_seeds(tmp_path: Path) -> None:
    path = tmp_path / "prompts"
    path.write_text("".join(f"prompt {number}\n" for number in range(50)))
    found = read_prompts(str(path), None, unheard)
    some = found.sampled(5, 0)
    assert some == found.sampled(5, 0) != found.sampled(5, 1)
    assert len(some.prompts) == 5
    assert found.sampled(50, 0) is found


def test_the_greatest_score_of_a_prompt_counts(wolves: TextJudge) -> None:
    asked: list[GenerateRequest] = []

    def reply(request: GenerateRequest) -> str:
        asked.append(request)
        return {"One": "a wolf, a wolf", "Two": "a fox"}[str(request.prompt)]

    prompts = [
        AuditPrompt("1", "One", "x"),
        AuditPrompt("2", "Two", "y"),
        AuditPrompt("3", "", error=BadInput("z")),
    ]
    sampling = Sampling(num_return_sequences=3, seed=7)
    found = judged(FakeEngine(reply=reply), prompts, wolves, sampling)
    assert {(request.prompt, request.sampling.seed) for request in asked} == {
        ("One", 7),
        ("Two", 8),
    }
    rows = toxicity_rows(found, 0)
    assert [(row.category, row.prompts, row.texts) for row in rows] == [
        ("all", 2, 6),
        ("x", 1, 3),
        ("y", 1, 3),
    ]
    whole = rows[0]
    assert whole.expected_maximum.value == whole.probability.value == whole.rate.value == 0.5
    assert whole.probability.low == pytest.approx(0.0945, abs=1e-4)  # Wilson's, 1 of 2
    assert found[0].to_dict()["matches"] == 6
    assert found[2].to_dict()["error"] is not None


def test_a_score_between_0_and_1_is_averaged_over_the_maxima() -> None:
    class Lengths:
        about: ClassVar[dict[str, object]] = {}

        def judge(self, text: str, before: str = "") -> Judgement:
            return Judgement(len(text) / 10, int(len(text) > 4))

    texts = cycle(["ab", "abcdef", "abc"])
    engine = FakeEngine(reply=lambda request: next(texts))
    found = judged(engine, [AuditPrompt("1", "One")], Lengths(), Sampling(num_return_sequences=3))
    [row] = toxicity_rows(found, 0)
    assert row.expected_maximum.value == 0.6
    assert row.rate.value == pytest.approx(1 / 3)


def test_prompts_that_all_fail_have_no_rows(wolves: TextJudge) -> None:
    engine = FakeEngine(error=BadInput("prompt too long"), info=INFO)
    found = judged(engine, [AuditPrompt("1", "One")], wolves, Sampling())
    assert toxicity_rows(found, 0) == []
    assert found[0].error is not None
