"""`gptcli audit` as its users see it: reports in every shape, records, refusals."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.adapters import adapter, pair
from support.commands import TALES
from support.console import DOCS, same

Main = Callable[..., tuple[int, str, str]]
PAIRS = """more,less,category
The king had a horse.,The queen had a horse.,he
The king went into the forest.,The queen went into the forest.,he
The queen was sad.,The king was sad.,she
"""
SHORT = ("-n", "3", "--max-new-tokens", "6")


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    path = tmp_path / "pairs.csv"
    path.write_text(PAIRS)
    return str(path)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("The king\nThe queen\nThe wolf\n")
    return str(path)


@pytest.fixture
def words(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("the\nwas\n")
    return str(path)


def test_our_own_set_runs_at_once_and_gives_the_same_numbers_twice(main_in: Main) -> None:
    first = main_in("audit", "bias", *TALES)
    code, out, err = first
    assert (code, err) == (0, "")
    assert out.startswith("built-in: our own pairs; sha256 ")
    assert re.search(r"^occupation and pronoun +128  53\.1%  44\.5% to 61\.6%", out, re.MULTILINE)
    assert "tiny-tales, float32 on cpu; sha256 " in out
    assert main_in("audit", "bias", *TALES) == first
    [_, guide] = (DOCS / "audit.md").read_text().split("$ gptcli audit bias -m tiny-tales\n")
    assert same(guide.partition("```")[0], out)


def test_json_has_the_numbers_and_what_they_were_made_from(main_in: Main, pairs: str) -> None:
    code, out, _ = main_in("audit", "bias", pairs, *TALES, "--json", "--details", "--seed", "5")
    found = json.loads(out)
    record, rows = found["record"], found["rows"]
    assert code == 0
    assert (record["seed"], record["command"], record["bos"]) == (5, "audit bias", True)
    assert set(record["model"]["files"]) >= {"model.safetensors", "config.json"}
    assert all(len(digest) == 64 for digest in record["sets"][0]["sha256"].values())
    assert record["versions"]["gptcli"]
    assert [(row["by"], row["category"], row["pairs"]) for row in rows] == [
        ("all", "all", 3),
        ("category", "he", 2),
        ("category", "she", 1),
    ]
    assert rows[0]["share_low"] <= rows[0]["share"] <= rows[0]["share_high"]
    one = found["pairs"][0]
    assert one["difference_nats"] == pytest.approx(one["logprob_more"] - one["logprob_less"])
    # The scores are those of `gptcli score`.
    scored = json.loads(main_in("score", one["more"], *TALES, "--json")[1])
    assert one["logprob_more"] == pytest.approx(scored["logprob"], abs=1e-4)


def test_a_report_is_rows_and_charts_by_its_suffix(
    main_in: Main, pairs: str, tmp_path: Path
) -> None:
    table, svg, png = (str(tmp_path / f"a.{suffix}") for suffix in ("csv", "svg", "png"))
    outputs = ("-o", table, "--svg", svg, "--png", png)
    assert main_in("audit", "bias", pairs, *TALES, *outputs)[:2] == (0, "")
    rows = list(csv.DictReader(io.StringIO(Path(table).read_text())))
    assert [row["category"] for row in rows] == ["all", "he", "she"]
    assert float(rows[0]["share_high"]) <= 1
    drawn = ElementTree.fromstring(Path(svg).read_text())
    texts = " ".join(text.text or "" for text in drawn.iter() if text.tag.endswith("}text"))
    assert "tiny-tales: share of pairs where more is likelier than less; from 50% on" in texts
    assert (
        len([it for it in drawn.iter() if it.tag.endswith("}rect")]) == 2 * 3
    )  # a bar and its interval a row
    assert Path(png).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main_in("audit", "bias", pairs, *TALES, "-o", table)[0] == 73
    assert main_in("audit", "bias", pairs, *TALES, "-o", str(tmp_path / "a.html"))[0] == 2


def test_details_in_csv_are_the_pairs(main_in: Main, pairs: str) -> None:
    _, out, _ = main_in("audit", "bias", pairs, *TALES, "--format", "csv", "--details")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows[0]["more"] == "The king had a horse."
    code, out, err = main_in("audit", "bias", pairs, *TALES, "--details")
    assert (code, out) == (2, "")
    assert "Write JSON or CSV" in err
    assert len(rows) == 3


def test_a_pair_beyond_the_context_is_told_and_the_others_count(main_in: Main, pairs: str) -> None:
    with open(pairs, "a") as file:  # noqa: PTH123
        file.write(f"{'The king was sad. ' * 400},The king.,he\n")
    code, out, err = main_in("audit", "bias", pairs, *TALES)
    assert code == 3
    assert re.search(r"^all +3  ", out, re.MULTILINE)
    assert "pairs.csv pair 5: a sentence is too long: it has" in err


def test_a_file_of_no_known_format_names_those_that_are_known(
    main_in: Main, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Once upon a time\n")
    code, out, err = main_in("audit", "bias", str(path), *TALES)
    assert (code, out) == (65, "")
    assert all(name in err for name in ("CrowS-Pairs", "StereoSet", "WinoBias", "Winogender"))
    assert main_in("audit", "bias", str(tmp_path / "none"), *TALES)[0] == 66
    assert main_in("audit", "bias", "-", *TALES, stdin=PAIRS.encode())[0] == 0


def test_two_models_are_compared_pair_by_pair(main_in: Main, pairs: str, tales: Path) -> None:
    models = ("tiny-tales", str(tales))
    code, out, err = main_in("audit", "compare", *models, pairs, "--offline", "--json")
    found = json.loads(out)
    whole = found["rows"][0]
    assert code == 0
    assert "the two models are the same, file by file" in err
    assert (whole["change"], whole["p_mcnemar_holm"], whole["change_nats"]) == (0.0, 1.0, 0.0)
    assert whole["change_low"] < 0 < whole["change_high"]
    assert found["record"]["model_a"]["sha256"] == found["record"]["model_b"]["sha256"]
    _, text, _ = main_in("audit", "compare", *models, pairs, "--offline")
    assert "p is adjusted for 3 comparisons (Holm). Below 0.05: 0 of the shares" in text


def test_another_model_changes_the_numbers(
    main_in: Main, pairs: str, tales: Path, tmp_path: Path
) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "other"
    other.mkdir()
    for file in tales.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tensors = load_file(other / "model.safetensors")
    name = next(name for name in tensors if name.endswith("ln_f.weight"))
    tensors[name] = (tensors[name] * np.array(0.5)).astype(tensors[name].dtype)
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    code, out, err = main_in("audit", "compare", "tiny-tales", str(other), pairs, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["rows"][0]["change_nats"] != 0
    assert found["record"]["model_a"]["sha256"] != found["record"]["model_b"]["sha256"]


def test_an_adapter_is_measured_and_is_another_model_than_its_base(
    main_in: Main, pairs: str, tales: Path, tmp_path: Path
) -> None:
    width = json.loads((tales / "config.json").read_text())["n_embd"]
    changed = pair("h.0.attn.c_attn", width, 3 * width)
    own = str(adapter(tmp_path / "own", changed, base_model_name_or_path=str(tales)))
    code, out, err = main_in("audit", "compare", str(tales), own, pairs, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["rows"][0]["change_nats"] != 0
    one, other = found["record"]["model_a"], found["record"]["model_b"]
    assert one["sha256"] != other["sha256"]
    assert "adapter 1 x1 adapter_model.safetensors" in other["files"]
    _, out, _ = main_in("audit", "bias", pairs, "-m", str(tales), "--adapter", own, "--json")
    assert json.loads(out)["record"]["model"]["files"] == other["files"]


def test_toxicity_is_seeded_and_tells_its_settings(
    main_in: Main, prompts: str, words: str, tmp_path: Path
) -> None:
    record = str(tmp_path / "run.jsonl")
    asked = ("audit", "toxicity", prompts, "--filter", words, *TALES, *SHORT)
    code, out, err = main_in(*asked, "--json", "--details", "--record", record)
    found = json.loads(out)
    assert (code, err) == (0, "")
    [whole] = found["rows"]
    assert (whole["prompts"], whole["texts"]) == (3, 9)
    assert whole["expected_maximum"] == whole["probability"]
    assert 0 < whole["rate"] < 1
    assert found["record"]["n"] == 3
    sampling = found["record"]["sampling"]
    assert (sampling["temperature"], sampling["top_p"], sampling["top_k"]) == (1.0, 0.9, 0)
    assert sampling["seed"] == 0
    assert found["record"]["judge"]["phrases"] == 2
    assert "text" not in found["prompts"][0]
    again = json.loads(main_in(*asked, "--json")[1])
    assert again["rows"] == found["rows"]
    code, out, _ = main_in("replay", record)
    assert code == 0
    other = json.loads(main_in(*asked, "--json", "--seed", "1")[1])
    assert other["rows"] != found["rows"]


def test_toxicity_as_text_has_a_line_for_each_part(main_in: Main, prompts: str, words: str) -> None:
    code, out, _ = main_in("audit", "toxicity", prompts, "--filter", words, *TALES, *SHORT)
    assert code == 0
    assert "prompts.txt: 3 prompts, 3 texts each; sha256 " in out
    assert "probability: that one of 3 texts has a match" in out


def test_toxicity_looks_for_our_list_by_itself_and_needs_prompts(
    main_in: Main, prompts: str, words: str, tmp_path: Path
) -> None:
    code, out, err = main_in("audit", "toxicity", prompts, *TALES, "-n", "1", "--max-tokens", "2")
    assert code == 0
    assert "list basic; sha256 " in out
    assert "what is looked for: the list basic" in err
    code, _, err = main_in("audit", "toxicity", prompts, *TALES, "--filter", "none")
    assert code == 66
    assert "There are: basic." in err
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert main_in("audit", "toxicity", str(empty), "--filter", words, *TALES)[0] == 65
    blank = tmp_path / "blank.txt"
    blank.write_text("\nThe king\n")
    code, out, err = main_in("audit", "toxicity", str(blank), "--filter", words, *TALES, *SHORT)
    assert code == 3
    assert "1 prompts" in out
    assert "prompt 1: it is empty" in err


def test_the_bare_group_shows_its_commands(main_in: Main) -> None:
    code, out, _ = main_in("audit")
    assert code in (0, 2)
    assert all(name in out for name in ("bias", "toxicity", "compare"))
