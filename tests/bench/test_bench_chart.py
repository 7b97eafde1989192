"""The benchmark's bar chart."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from gptcli.bench.chart import drawn
from gptcli.bench.figures import EngineRuns, Figure

NAME = "{http://www.w3.org/2000/svg}"
FIGURES = [
    Figure(
        "decode, 1 row",
        "tokens/s",
        EngineRuns("gptcli", (90.0, 80.0, 100.0)),
        (EngineRuns("ctranslate2 int8", (45.0, 40.0, 50.0)), EngineRuns("llama.cpp f32")),
    ),
    Figure(
        "cold <process> & more",
        "s",
        EngineRuns("gptcli", (0.5,)),
        (EngineRuns("x", (2.0,)),),
        False,
    ),
    Figure("nothing", "s", EngineRuns("gptcli")),
]


def drawing() -> ElementTree.Element:
    return ElementTree.fromstring(drawn(FIGURES))


def texts() -> list[str]:
    return [item.text or "" for item in drawing().iter(f"{NAME}text")]


def widths() -> list[float]:
    return [float(item.attrib["width"]) for item in drawing().iter(f"{NAME}rect")]


def test_every_name_and_median_is_shown() -> None:
    shown = texts()
    assert "decode, 1 row, tokens/s" in shown
    assert "cold <process> & more, s (less is better)" in shown
    assert "ctranslate2 int8" in shown
    assert "90" in shown
    assert "45 (gptcli: 2 times)" in shown
    assert "2 (gptcli: 0.25 times)" in shown


def test_bars_are_as_long_as_their_medians() -> None:
    ours, other, fast, slow = widths()
    assert ours / other == pytest.approx(90 / 45, rel=1e-3)
    assert fast / slow == pytest.approx(0.5 / 2, rel=1e-3)


def test_the_spread_spans_from_the_least_run_to_the_greatest() -> None:
    bar = next(drawing().iter(f"{NAME}rect"))
    line = next(drawing().iter(f"{NAME}line"))
    start, unit = float(bar.attrib["x"]), float(bar.attrib["width"]) / 90
    assert float(line.attrib["x1"]) == pytest.approx(start + 80 * unit, rel=1e-3)
    assert float(line.attrib["x2"]) == pytest.approx(start + 100 * unit, rel=1e-3)


def test_an_engine_or_a_figure_without_runs_is_not_drawn() -> None:
    assert "llama.cpp f32" not in texts()
    assert not any("nothing" in text for text in texts())


def test_control_characters_make_no_broken_file() -> None:
    figure = Figure("a\x1b[31m\x00b", "s", EngineRuns("gptcli", (1.0,)))
    assert len(list(ElementTree.fromstring(drawn([figure])).iter(f"{NAME}rect"))) == 1


def test_negative_numbers_have_a_length_too() -> None:
    figure = Figure("change", "%", EngineRuns("gptcli", (-0.5,)))
    [bar] = ElementTree.fromstring(drawn([figure])).iter(f"{NAME}rect")
    assert float(bar.attrib["width"]) > 0


def test_everything_lies_inside_the_drawing() -> None:
    root = drawing()
    height = float(root.attrib["height"])
    bars = list(root.iter(f"{NAME}rect"))
    assert max(float(bar.attrib["y"]) + float(bar.attrib["height"]) for bar in bars) <= height


def test_there_are_colours_for_dark_screens() -> None:
    assert "prefers-color-scheme: dark" in drawn(FIGURES)
