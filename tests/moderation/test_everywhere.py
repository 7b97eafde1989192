"""The filter is the same in batches, chats, tasks, records and the server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.served import InProcess, events_of

from gptcli.cli import flags
from gptcli.engines import open_engine
from gptcli.options.moderation import ModeratedLoad
from gptcli.protocol import Engine

BEGIN = "Once upon a time"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list that most tales have a match of."""
    path = tmp_path_factory.mktemp("lists") / "own.txt"
    path.write_text("king\nold man\nthere was\nshe\nhe\nyou\n", encoding="utf-8")
    return path


FOUND = re.compile(r"\b(king|old man|there was|she|he|you)\b", re.I)


def filtered(words: Path, action: str = "stop") -> tuple[str, ...]:
    return "--filter", str(words), "--filter-action", action


def test_a_batch_has_it_in_its_rows_and_goes_on_only_with_the_same_list(
    tmp_path: Path, words: Path, main_in
) -> None:
    rows, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    rows.write_text(f"{BEGIN}\nThe old\nA princess\n")
    own = tmp_path / "mine.txt"
    own.write_bytes(words.read_bytes())
    flags = ("-m", "tiny-tales", "--seed", "1", "--max-new-tokens", "24", "-o", str(out))
    code, _, err = main_in("batch", str(rows), *flags, *filtered(own))
    found = [json.loads(line) for line in out.read_text().splitlines()]
    ended = [row for row in found if row["finish_reason"] == "content_filter"]
    assert code == 0
    assert ended
    assert f"{len(ended)} filtered" in err
    for row in found:
        assert not FOUND.search(row["text"])
        assert row["filter"]["lists"].keys() == {"mine.txt"}
    code, _, err = main_in("batch", str(rows), *flags, *filtered(own))
    assert code == 0
    own.write_text("another\n")
    code, _, err = main_in("batch", str(rows), *flags, *filtered(own))
    assert code == 65
    assert "filter_lists was" in err


def test_a_record_replays_with_the_same_list_alone(tmp_path: Path, words: Path, main_in) -> None:
    own, record = tmp_path / "mine.txt", tmp_path / "run.jsonl"
    own.write_bytes(words.read_bytes())
    flags = ("-m", "tiny-tales", "--seed", "1", "--max-new-tokens", "24", "--record", str(record))
    for action in ("retry", "mask"):
        main_in("generate", BEGIN, *flags, "--force", *filtered(own, action))
        code, out, _ = main_in("replay", str(record))
        assert (code, "identical" in out) == (0, True)
    head = json.loads(record.read_text().splitlines()[0])
    assert head["filter"]["filter_action"] == "mask"
    assert not FOUND.search(record.read_text())
    own.write_text("another\n")
    code, _, err = main_in("replay", str(record))
    assert code == 65
    assert "the filter was another one: filter_lists" in err


def test_a_chat_and_a_task_have_it(words: Path, main_in) -> None:
    flags = ("-m", "tiny-tales", "--seed", "3", "--max-new-tokens", "40", "--json")
    said = b"Tell me of a king and the old man.\n" * 3
    code, out, _ = main_in("chat", *flags, *filtered(words), stdin=said)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert {row["finish_reason"] for row in rows} >= {"content_filter"}
    assert not any(FOUND.search(row["reply"]) for row in rows)
    assert all("filter" in row for row in rows)
    code, out, _ = main_in("summarize", BEGIN, *flags, *filtered(words, "mask"))
    assert code == 0
    assert json.loads(out)["filter"]["action"] == "mask"


def test_a_list_that_is_not_there_is_told_before_a_model_is_loaded(main_in) -> None:
    code, _, err = main_in("generate", "x", "-m", "tiny-tales", "--filter", "nowhere")
    assert code == 66
    assert "filter nowhere: there is no such list" in err
    assert "There are: basic." in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--filter-action", "mask"), "there is no filter"),
        (("--filter-retries", "3"), "--filter-retries: there is no filter"),
        (("--filter-language", "de"), "--filter-language: there is no list"),
        (("--filter", ""), "the name is empty"),
        (("--moderator", "x"), "no label is named"),
        (("--moderator", "x", "--moderator-label", "a=2"), "is not LABEL=THRESHOLD"),
        (("--filter", "basic", "--filter-retries", "0"), "out of range"),
        (("--filter", "basic", "--filter-action", "hide"), "hide"),
    ],
)
def test_flags_that_mean_nothing_are_refused(flags: tuple[str, ...], message: str, main_in) -> None:
    code, _, err = main_in("generate", "x", *flags)
    assert code == 2
    assert message in err


def test_an_action_of_the_file_counts_beside_either_judge(
    tmp_path: Path, main_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.toml"
    monkeypatch.setenv("GPTCLI_CONFIG", str(file))
    seen: list[ModeratedLoad] = []

    def note(command: object, arguments: dict[str, object]) -> int:
        seen.append(arguments["load"])  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(flags, "call", note)
    actions = 'filter_action = "retry"\nfilter_retries = 3\n'
    label = 'moderator_label = ["a"]\n'
    for more in ('filter = ["x"]\n', 'moderator = "x"\n' + label, label, ""):
        file.write_text(actions + more)
        assert main_in("generate", "x")[0] == 0
    told = [(one.filter_action, one.filter_retries, len(one.moderator_label)) for one in seen]
    assert told == [("retry", 3, 0), ("retry", 3, 1), ("stop", 8, 0), ("stop", 8, 0)]


@pytest.fixture(scope="module")
def moderated(words: Path) -> Engine:
    return open_engine(ModeratedLoad(model="tiny-tales", filter=(str(words),)), 8)


def test_openais_routes_say_content_filter_and_nothing_of_a_match(moderated: Engine) -> None:
    fields = {"max_tokens": 24, "temperature": 0.8, "logprobs": 3}
    ended = 0
    with InProcess(moderated) as app:
        for seed in range(3):
            answer = app.complete(prompt=BEGIN, seed=seed, n=2, **fields)
            pieces = app.stream(prompt=BEGIN, seed=seed, n=2, **fields)
            for choice in answer["choices"]:
                own = [one["choices"][0] for one in pieces if one["choices"]]
                own = [one for one in own if one["index"] == choice["index"]]
                assert "".join(one["text"] for one in own) == choice["text"]
                assert own[-1]["finish_reason"] == choice["finish_reason"]
                ended += choice["finish_reason"] == "content_filter"
                assert not FOUND.search(choice["text"])
                for one in (choice["logprobs"], *(piece["logprobs"] for piece in own)):
                    assert not FOUND.search("".join(one["tokens"]))
                    tops = [name.strip() for top in one["top_logprobs"] for name in top]
                    assert not any(map(FOUND.fullmatch, tops))
        # A text that ended before its first token left has cost some all the same.
        [she] = moderated.tokenizer.encode(" she")
        bare = app.complete(prompt=BEGIN, max_tokens=8, logit_bias={she: 100})
        assert bare["choices"][0]["text"].strip() == ""
        assert bare["choices"][0]["finish_reason"] == "content_filter"
        assert bare["usage"]["completion_tokens"] >= 1
        said = {"messages": [{"role": "user", "content": "x"}], "logit_bias": {str(she): 100}}
        _, _, data = app.send(json.dumps({**said, "max_tokens": 8}).encode(), CHAT)
        assert json.loads(data)["choices"][0]["finish_reason"] == "content_filter"
        assert json.loads(data)["usage"]["completion_tokens"] >= 1
        asked = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 64}
        reasons = set()
        for seed in range(3):
            body = {**asked, "seed": seed}
            _, _, data = app.send(json.dumps(body).encode(), CHAT)
            whole = json.loads(data)["choices"][0]
            _, _, data = app.send(json.dumps({**body, "stream": True}).encode(), CHAT)
            deltas = [one["choices"][0] for one in events_of(data)]
            text = "".join(one["delta"].get("content") or "" for one in deltas)
            assert text.strip() == whole["message"]["content"].strip()
            assert deltas[-1]["finish_reason"] == whole["finish_reason"]
            assert not FOUND.search(text)
            reasons.add(whole["finish_reason"])
    assert ended
    assert "content_filter" in reasons
