"""The text for Prometheus follows its format to the letter, and the numbers agree."""

from __future__ import annotations

import re
from collections import defaultdict

from support.serving import ServeProcess

from gptcli.server.metrics import Metrics, sample

LINE = re.compile(
    r'(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})?'
    r" (?P<value>\S+)"
)
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def parsed(text: str) -> dict[str, dict[str, float]]:
    """The samples by family, each by its labels; asserts what the format asks for."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in helped  # a family stands together
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name in helped
            assert name not in found
            assert kind in ("counter", "gauge", "histogram")
            kinds[name] = kind
        else:
            match = LINE.fullmatch(line)
            assert match, line
            name = match["name"]
            family = name if name in kinds else SUFFIX.sub("", name)
            assert list(kinds)[-1] == family, line
            assert (kinds[family] == "histogram") == (family != name)
            assert (kinds[family] == "counter") == name.endswith("_total")
            key = f"{name}{{{match['labels'] or ''}}}"
            assert key not in found[family]
            found[family][key] = float(match["value"])
    for name in (name for name, kind in kinds.items() if kind == "histogram"):
        buckets = [value for key, value in found[name].items() if "_bucket{" in key]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[name][f"{name}_count{{}}"]
        assert f"{name}_sum{{}}" in found[name]
    return found


def test_the_text_is_valid_and_counts_what_happened() -> None:
    with ServeProcess() as server:
        body = {"prompt": [5] * 10, "max_tokens": 6, "ignore_eos": True, "n": 2}
        assert server.post(body).status == 200
        assert server.post(body | {"temperature": -1}).status == 400
        assert server.get('/no"\\where').status == 404
        answer = server.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = parsed(answer.body.decode())
    tokens = found["gptcli_tokens_total"]
    assert tokens['gptcli_tokens_total{kind="prompt"}'] == 10
    assert tokens['gptcli_tokens_total{kind="completion"}'] == 12
    assert found["gptcli_requests_total"]['gptcli_requests_total{outcome="done"}'] == 1
    answers = found["gptcli_http_answers_total"]
    counted = {key.partition("{")[2]: value for key, value in answers.items()}
    assert counted['route="/v1/completions",method="POST",status="200"}'] == 1
    assert counted['route="/v1/completions",method="POST",status="400"}'] == 1
    assert counted['route="other",method="GET",status="404"}'] == 1
    for name in ("queue", "time_to_first_token", "request", "time_per_output_token"):
        assert found[f"gptcli_{name}_seconds"][f"gptcli_{name}_seconds_count{{}}"] == 1


def test_prometheus_own_parser_agrees() -> None:
    import pytest

    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is missing")
    text = Metrics().text({"up": ("Help.", 1.0)}, {"model": 'a"b\\c\nd'})
    names = {family.name for family in parser.text_string_to_metric_families(text)}
    assert "gptcli_request_seconds" in names


def test_labels_are_escaped() -> None:
    text = sample("a", (("b", 'x"y\\z\n'),), 1)
    assert text == 'a{b="x\\"y\\\\z\\n"} 1'
    assert LINE.fullmatch(text)
