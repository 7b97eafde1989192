"""`gptcli --server` over `gptcli serve`: the same texts and numbers as with the model here."""

from __future__ import annotations

import json

import pytest
from support.served import ServedProcess

SAMPLED = ("--seed=3", "--max-tokens=12", "--top-k=40", "-q")
ODD = "Once there was é 日本.<|endoftext|> \U0001f469 x"


@pytest.fixture
def both(main_in, served: ServedProcess):
    """A function that runs a command with the server, and with the model here."""

    def both(*args: str, stdin: bytes = b"") -> tuple[str, str]:
        answers = []
        for where in (("--server", served.url), ("-m", "tiny-tales", "--offline")):
            code, out, err = main_in(*args, *where, stdin=stdin)
            assert code == 0, err
            answers.append(out)
        return answers[0], answers[1]

    return both


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (("generate", "Once upon a time", *SAMPLED, "-n3"), b""),
        (("generate", ODD, *SAMPLED, "--frequency-penalty=1", "--logit-bias=13=-5"), b""),
        (("chat", *SAMPLED), b"Hello\nAnd then?\n"),
        (("summarize", "A tale of a fox. It was red.", *SAMPLED), b""),
    ],
)
def test_texts_are_those_of_the_model_here(both, args, stdin):
    far, near = both(*args, stdin=stdin)
    assert far == near


def test_log_probabilities_are_those_of_the_model_here(both):
    rows = [
        [json.loads(line) for line in out.splitlines()]
        for out in both("score", ODD, "--tokens", "--format", "jsonl", "-q")
    ]
    for far, near in zip(*rows, strict=True):
        assert far["logprob"] == pytest.approx(near["logprob"], abs=1e-6)
        assert (far["token"], far["start"], far["end"]) == (
            (near["token"], near["start"], near["end"])
        )
    compared = [
        json.loads(out)
        for out in both("score", "--compare", " old king", " 日本", "--context=The", "--json", "-q")
    ]
    far, near = ([text["logprob"] for text in found["texts"]] for found in compared)
    assert far == pytest.approx(near, abs=1e-6)


def test_labels_are_those_of_the_model_here(both):
    far, near = map(json.loads, both("classify", "A fine day", "--labels=good,bad", "--json", "-q"))
    assert far["labels"] == pytest.approx(near["labels"], abs=1e-6)


def test_a_batch_is_that_of_the_model_here(both):
    rows = [{"prompt": text, "seed": seed} for seed, text in enumerate(("The king", "é", "Once"))]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    how = ("--input-format=jsonl", "--max-tokens=9", "--top-k=40", "-q")
    far, near = both("batch", "-", *how, stdin=lines)
    assert [json.loads(line)["text"] for line in far.splitlines()] == (
        [json.loads(line)["text"] for line in near.splitlines()]
    )
