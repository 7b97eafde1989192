"""The benchmark of scoring: both sides score the same sentences alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptcli.bench.peers.peer import PeerSetting
from gptcli.bench.peers.transformers import Transformers
from gptcli.bench.scoring import checked, ours, prose, scoring
from gptcli.engines import open_engine
from gptcli.errors import Unavailable
from gptcli.options import Load


def test_sentences_are_as_long_as_those_of_prose_and_the_same_each_time() -> None:
    texts = prose(500)
    assert texts == prose(500)
    lengths = sorted(len(text.split()) for text in texts)
    assert 15 <= lengths[250] <= 21
    assert lengths[0] < 8
    assert lengths[-1] > 50


@pytest.fixture(scope="module")
def setting(tales: Path) -> PeerSetting:
    return PeerSetting(folder=tales, dtype="float32", device="cpu", threads=1, slots=3)


def test_the_loop_over_transformers_scores_what_we_score(tales: Path, setting: PeerSetting) -> None:
    texts = prose(7)
    engine = open_engine(Load(model=str(tales), dtype="float32"), 3)
    assert Transformers(setting).score(texts) == pytest.approx(ours(engine, texts), abs=1e-3)


def test_a_loop_that_scores_something_else_is_refused() -> None:
    checked([-10.0], [-10.001])
    with pytest.raises(Unavailable, match="scores a sentence"):
        checked([-10.0], [-11.0])


def test_both_sides_have_a_number_for_every_run(tales: Path, setting: PeerSetting) -> None:
    load = Load(model=str(tales))
    [figure] = scoring(load, setting, sentences=16, runs=2, say=lambda text: None)
    assert figure.name == "16 sentences scored"
    assert [len(runs.values) for runs in (figure.ours, *figure.theirs)] == [2, 2]
