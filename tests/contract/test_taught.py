"""The tasks' commands on a model that knows the answers, and on one that knows none.

Real commands, as processes of their own where the process matters, else by `main`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import taught as lessons
from support.commands import REAL, TALES, run

from gptcli.engines import open_engine
from gptcli.options import Load, Sampling
from gptcli.protocol import Engine
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import options_class, values
from gptcli.tasks.prompts import worded
from gptcli.tasks.solver import solve

Cli = Callable[..., tuple[int, str, str]]
Process = Callable[..., CompletedProcess[bytes]]
BUILT_IN = ("summarize", "translate", "answer", "classify", "extract", "code")
KEYS = (
    *("task", "id", "index", "input", "text", "finish_reason", "usage", "seed", "model"),
    *("revision", "truncated", "error"),
)


@pytest.fixture
def process(taught: Path) -> Process:
    """A function that runs gptcli with the taught model, in a process of its own."""

    def process(*args: str, stdin: str = "") -> CompletedProcess[bytes]:
        chosen = "-m", str(taught), "--offline"
        return run(REAL, *args, *chosen, stdin=stdin.encode())

    return process


@pytest.fixture
def cli(main_in: Cli, taught: Path) -> Cli:
    """As `main_in`, with the taught model."""

    def cli(*args: str, stdin: str = "") -> tuple[int, str, str]:
        return main_in(*args, "-m", str(taught), "--offline", stdin=stdin.encode())

    return cli


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of tasks, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = catalog.user_folder()
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def engine(taught: Path) -> Engine:
    return open_engine(Load(model=str(taught)), 4)


def asked(engine: Engine, name: str, options: dict[str, Any], texts: list[str]) -> Iterator[Answer]:
    """The answers of a built-in task, without a command line."""
    task = catalog.find(name)
    wording = worded(task, values(task, options_class(task)(**options)))
    questions = (Question(str(number), text) for number, text in enumerate(texts))
    sampling = Sampling(**dict(task.sampling, temperature=0.0))
    for event in solve(engine, wording, questions, sampling, batch_size=4):
        if isinstance(event, Answer):
            yield event


def entities(text: str, answer: str) -> list[dict[str, object]]:
    """What `answer` names, after a check that the places are right."""
    found: list[dict[str, Any]] = json.loads(answer)
    for entity in found:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    return found


def named(found: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(entity["text"], entity["type"]) for entity in found]


# translate


@pytest.mark.parametrize(("given", "wanted"), lessons.TRANSLATIONS)
def test_every_pair_of_languages_is_translated(engine: Engine, given: str, wanted: str) -> None:
    pairs = lessons.TRANSLATIONS[given, wanted]
    answers = asked(engine, "translate", {"from_": given, "to": wanted}, list(pairs))
    assert [answer.text for answer in answers] == list(pairs.values())


def test_translate_writes_the_translation_and_nothing_else(process: Process) -> None:
    done = process("translate", "Where is the station?")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "Où est la gare ?\n"


def test_translate_takes_languages(process: Process) -> None:
    done = process("translate", "--to", "de", "The street is narrow.")
    assert done.stdout.decode() == "Die Straße ist schmal.\n"


def test_translate_keeps_lines_and_what_stands_between_sentences(cli: Cli) -> None:
    text = "Good evening. The cat sleeps on the bed.\n\n  Where is the station?\n"
    code, out, err = cli("translate", stdin=text)
    assert (code, err) == (0, "")
    assert out == "Bonsoir. Le chat dort sur le lit.\n\n  Où est la gare ?\n"


def test_translate_by_lines_gives_a_line_for_each(cli: Cli) -> None:
    text = "Good evening. Where is the station?\nThe cat sleeps on the bed.\n"
    code, out, _ = cli("translate", "--lines", stdin=text)
    assert (code, out) == (0, "Bonsoir. Où est la gare ?\nLe chat dort sur le lit.\n")


@pytest.mark.parametrize("flag", ["--from", "--to"])
def test_an_unknown_language_is_refused_with_those_there_are(cli: Cli, flag: str) -> None:
    code, out, err = cli("translate", flag, "xx", "Good evening.")
    assert (code, out) == (2, "")
    for language in ("en", "fr", "de", "es", "it", "pt", "nl"):
        assert f"'{language}'" in err


def test_a_language_is_not_translated_to_itself(cli: Cli) -> None:
    code, out, err = cli("translate", "--to", "en", "Good evening.")
    assert (code, out) == (2, "")
    assert "--to: 'en', the same as --from" in err


# summarize


def test_summarize_gives_three_sentences_of_a_file(process: Process, tmp_path: Path) -> None:
    file = tmp_path / "bridge.txt"
    file.write_text(lessons.BRIDGE + "\n")
    done = process("summarize", "-f", str(file), "--seed", "1")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == " ".join(lessons.OF_BRIDGE[:3]) + "\n"


@pytest.mark.parametrize(
    ("flag", "value", "count"),
    [("--sentences", "1", 1), ("--sentences", "9", 4), ("--ratio", "0.7", 2)],
)
def test_summarize_gives_as_many_sentences_as_asked_for(
    cli: Cli, flag: str, value: str, count: int
) -> None:
    code, out, _ = cli("summarize", flag, value, "--greedy", stdin=lessons.BRIDGE)
    assert (code, out) == (0, " ".join(lessons.OF_BRIDGE[:count]) + "\n")


def test_a_long_text_is_summarized_by_its_parts_summaries(process: Process) -> None:
    done = process("summarize", "-v", "--greedy", stdin=lessons.TALES_OF_THREE)
    assert done.stdout.decode() == lessons.OF_THREE + "\n"
    steps = done.stderr.decode().splitlines()
    assert "tokens do not fit: answering 3 parts" in steps[0]
    assert "answering for the" in steps[1]
    assert "tokens of the parts' answers" in steps[1]


def test_summaries_of_the_parts_are_the_answer_if_each_is_asked_for(cli: Cli) -> None:
    code, out, _ = cli("summarize", "--strategy", "each", "--greedy", stdin=lessons.TALES_OF_THREE)
    assert (code, out) == (0, "\n".join(lessons.PARTS.values()) + "\n")


def test_a_text_longer_than_the_context_is_cut_if_asked_for(cli: Cli) -> None:
    shape = "--strategy", "truncate", "--greedy", "--json"
    code, out, err = cli("summarize", *shape, stdin=lessons.TALES_OF_THREE)
    answer = json.loads(out)
    assert code == 0
    assert answer["truncated"] > 100
    assert f"input cut by {answer['truncated']} tokens at its end" in err


# answer


def test_questions_are_answered_from_memory(engine: Engine) -> None:
    answers = asked(engine, "answer", {}, list(lessons.FACTS))
    assert [answer.text for answer in answers] == list(lessons.FACTS.values())


def test_answer_writes_the_answer_and_nothing_else(process: Process) -> None:
    done = process("answer", "Who painted the Mona Lisa?")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Leonardo da Vinci\n", b"")


def test_answer_reads_the_context_from_standard_input(process: Process) -> None:
    context, question = lessons.LOOKED_UP
    done = process("answer", question, stdin=context + "\n")
    assert (done.returncode, done.stdout) == (0, b"behind the chapel\n")
    assert done.stderr == (
        b"gptcli: note: 1 line of standard input read beside the argument;"
        b" --no-stdin leaves it alone\n"
    )


@pytest.mark.parametrize("kind", ["file", "text"])
def test_answer_reads_the_context_that_is_given(cli: Cli, tmp_path: Path, kind: str) -> None:
    context, question = lessons.LOOKED_UP
    file = tmp_path / "bees.txt"
    file.write_text(context + "\n")
    code, out, err = cli("answer", question, "--context", str(file) if kind == "file" else context)
    assert (code, out, err) == (0, "behind the chapel\n", "")


def test_the_right_passage_of_a_long_context_is_read(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "three.txt"
    file.write_text(lessons.TALES_OF_THREE)
    question, found = lessons.WINDOWED
    code, out, err = cli("answer", question, "--context", str(file))
    text = lessons.TALES_OF_THREE
    assert (code, out) == (0, found + "\n")
    assert f"characters {text.index(lessons.BAKERY)} to {len(text)} were read" in err


def test_json_tells_how_sure_an_answer_is(cli: Cli) -> None:
    out = cli(
        "answer", "--json", "--lines", stdin=f"{next(iter(lessons.FACTS))}\n{lessons.DOUBTED}"
    )[1]
    sure, doubted = json.loads(out)
    assert sure["mean_logprob"] > -0.1
    assert doubted["text"] in lessons.COLOURS
    assert doubted["mean_logprob"] < -0.5


def test_an_answer_that_is_not_sure_enough_is_withheld(cli: Cli) -> None:
    code, out, err = cli("answer", "--abstain-below", "-0.4", lessons.DOUBTED)
    assert (code, out, err) == (0, "unknown\n", "")


def test_a_sure_answer_is_not_withheld(cli: Cli) -> None:
    question, fact = next(iter(lessons.FACTS.items()))
    assert cli("answer", "--abstain-below", "-0.4", question)[1] == f"{fact}\n"


# classify


def test_classify_writes_the_label_and_nothing_else(process: Process) -> None:
    done = process("classify", "I loved every minute of it.")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"positive\n", b"")


def test_classify_by_lines_gives_a_line_for_each_also_where_one_fails(process: Process) -> None:
    texts, labels = list(lessons.REVIEWS), list(lessons.REVIEWS.values())
    done = process("classify", "--lines", stdin="\n".join([texts[0], "", *texts[1:]]))
    assert done.returncode == 3
    assert done.stdout.decode().splitlines() == [labels[0], "", *labels[1:]]
    assert b"line 2 is empty" in done.stderr


@pytest.mark.parametrize("way", ["contextual", "pmi", "none"])
def test_every_calibration_knows_what_is_clear(cli: Cli, way: str) -> None:
    out = cli("classify", "--lines", "--calibration", way, stdin="\n".join(lessons.REVIEWS))[1]
    assert out.splitlines() == list(lessons.REVIEWS.values())


@pytest.mark.parametrize(("way", "share"), [("none", 0.5), ("contextual", 0.25), ("pmi", 0.75)])
def test_calibration_takes_out_what_the_model_prefers(cli: Cli, way: str, share: float) -> None:
    out = cli("classify", "--json", "--calibration", way, lessons.LUKEWARM)[1]
    assert json.loads(out)["labels"]["positive"] == pytest.approx(share, abs=0.12)


@pytest.mark.parametrize("way", ["contextual", "pmi", "none"])
def test_probabilities_of_the_labels_sum_to_one(cli: Cli, way: str) -> None:
    shape = "--json", "--calibration", way, "--labels", ",".join(lessons.TOPICS)
    found = json.loads(cli("classify", *shape, next(iter(lessons.OF_TOPICS)))[1])["labels"]
    assert set(found) == set(lessons.TOPICS)
    assert math.fsum(found.values()) == pytest.approx(1)


def test_labels_of_several_words_are_chosen_from(cli: Cli) -> None:
    labels = ",".join(lessons.TOPICS)
    code, out, err = cli(
        "classify", "--lines", "--labels", labels, stdin="\n".join(lessons.OF_TOPICS)
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == list(lessons.OF_TOPICS.values())


def test_a_label_that_is_not_likely_enough_is_withheld(cli: Cli) -> None:
    texts = f"{lessons.LUKEWARM}\n{next(iter(lessons.REVIEWS))}"
    out = cli("classify", "--lines", "--abstain-below", "0.9", stdin=texts)[1]
    assert out == "unknown\npositive\n"


# extract


def test_extract_writes_names_with_their_places(process: Process) -> None:
    done = process("extract", lessons.MEETING)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == [
        {"text": "Zoé Lang", "type": "person", "start": 2, "end": 10},
        {"text": "Peter", "type": "person", "start": 15, "end": 20},
        {"text": "Ghent", "type": "place", "start": 24, "end": 29},
    ]


def test_what_the_text_does_not_name_is_left_out(cli: Cli) -> None:
    assert "Zorro (person)" in lessons.IN_SNOW
    found = entities(lessons.SNOW, cli("extract", lessons.SNOW)[1])
    assert named(found) == [("Clara Voss", "person"), ("Turin", "place"), ("Turin", "place")]


def test_a_name_that_stands_there_twice_has_two_places(cli: Cli) -> None:
    found = entities(lessons.SNOW, cli("extract", lessons.SNOW)[1])
    assert [entity["start"] for entity in found] == [0, 20, 31]


def test_names_of_a_long_text_are_placed_in_the_whole(cli: Cli) -> None:
    text = "\n\n".join(lessons.LETTERS)
    code, out, err = cli("extract", "-v", stdin=text)
    assert code == 0
    assert "answering 2 parts" in err
    assert named(entities(text, out)) == [
        ("Ruth", "person"),
        ("Basel", "place"),
        ("Helvetia Insurance", "organization"),
        ("Otto", "person"),
    ]


def test_names_of_other_types_are_left_out(cli: Cli) -> None:
    out = cli("extract", "--types", "person", "--json", lessons.MEETING)[1]
    found = json.loads(out)["entities"]
    assert named(found) == [("Zoé Lang", "person"), ("Peter", "person")]


# code


def test_code_ends_at_the_dedent_and_keeps_its_indentation(
    process: Process, tmp_path: Path
) -> None:
    file = tmp_path / "add.py"
    file.write_text("def add(a, b):\n")
    done = process("code", "-f", str(file))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"\n    total = a + b\n\n    return total\n"


@pytest.mark.parametrize(
    ("until", "body"),
    [
        ("dedent", "\n    total = a + b\n\n    return total"),
        ("blank", "\n    total = a + b"),
        ("none", "\n    total = a + b\n\n    return total\n\n\nprint(add(1, 2))"),
    ],
)
def test_code_ends_where_it_is_to(cli: Cli, until: str, body: str) -> None:
    assert cli("code", "--until", until, "def add(a, b):") == (0, body + "\n", "")


def test_a_method_ends_before_the_next_one(cli: Cli) -> None:
    assert cli("code", "class Door:\n    def close(self):")[1] == "\n        self.open = False\n"


def test_echo_puts_code_together(cli: Cli) -> None:
    prefix = "class Door:\n    def close(self):"
    assert cli("code", "--echo", prefix)[1] == f"{prefix}\n        self.open = False\n"


# chat


def test_chat_replies_line_by_line_and_remembers(process: Process) -> None:
    said, replies = zip(*lessons.CONVERSATION, strict=True)
    done = process("chat", "--greedy", stdin="\n".join(said) + "\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == list(replies)


# tasks by name, and the user's own


def test_run_is_the_command_of_that_name(cli: Cli) -> None:
    args = "--to", "de", "Good evening."
    assert cli("run", "translate", *args) == cli("translate", *args) == (0, "Guten Abend.\n", "")


def test_a_users_task_runs_by_its_name(process: Process, mine: Path) -> None:
    (mine / "opposite.toml").write_text(lessons.OWN["opposite"])
    done = process("run", "opposite", "--lines", stdin="\n".join(lessons.OPPOSITES))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == list(lessons.OPPOSITES.values())


def test_a_users_task_is_in_the_list(main_in: Cli, mine: Path) -> None:
    (mine / "opposite.toml").write_text(lessons.OWN["opposite"])
    code, out, _ = main_in("tasks", "list")
    assert code == 0
    assert ["opposite", "user", "Say the opposite."] in [
        line.split(None, 2) for line in out.splitlines()
    ]


@pytest.mark.parametrize("command", [("translate",), ("run", "translate")])
def test_a_users_task_is_taken_in_place_of_a_built_in_one(
    cli: Cli, mine: Path, command: tuple[str, ...]
) -> None:
    (mine / "translate.toml").write_text(lessons.OWN["translate"])
    said, again = lessons.PIRATE
    assert cli(*command, said) == (0, again + "\n", "")


@pytest.mark.parametrize(
    ("args", "prompt"),
    [
        (["summarize", "It rains."], "It rains.\nTL;DR:\n"),
        (["code", "x = "], "x = \n"),
        (["classify", "--labels", "a,b", "It rains."], "Text: It rains.\nLabel:\n"),
        (
            ["classify", "--labels", "a,b", "--example", "Sun = a", "It rains."],
            "Text: Sun\nLabel: a\n\nText: It rains.\nLabel:\n",
        ),
        (["answer", "--context", "Rain.", "What?"], "Rain.\n\nQ: What?\nA:\n"),
    ],
)
def test_a_dry_run_prints_the_prompt_exactly(main_in: Cli, args: list[str], prompt: str) -> None:
    assert main_in(*args, "--dry-run")[:2] == (0, prompt)


def test_examples_of_a_translation_stand_before_it_as_pairs(main_in: Cli) -> None:
    out = main_in("translate", "--from", "fr", "--to", "en", "--dry-run", "Il pleut.")[1]
    *pairs, last = out.splitlines()
    assert pairs[0] == "Bonjour, comment allez-vous ? = Good morning, how are you?"
    assert [pair.count(" = ") for pair in pairs] == [1] * 6
    assert last == "Il pleut. ="


# a model that knows nothing of this


@pytest.fixture(params=BUILT_IN)
def on_tales(request: pytest.FixtureRequest, main_in: Cli) -> Cli:
    """A function that runs one of the tasks with tiny-tales; adds the task's name to the result."""

    def on_tales(*args: str) -> tuple[int, str, str]:
        limit = () if request.param == "classify" else ("--max-new-tokens", "20")
        text = "The king had three sons."
        return main_in(request.param, text, *TALES, *limit, "--seed", "1", *args)

    return on_tales


def test_a_task_writes_text_with_one_line_break_at_its_end(on_tales: Cli) -> None:
    code, out, _ = on_tales()
    assert code == 0
    assert out.endswith("\n")
    assert not out.endswith("\n\n")


def test_a_task_writes_json_with_these_keys(on_tales: Cli, request: pytest.FixtureRequest) -> None:
    code, out, _ = on_tales("--json")
    answer = json.loads(out)
    more = {
        "answer": ["mean_logprob", "abstained"],
        "classify": ["abstained", "labels"],
        "extract": ["entities"],
    }
    assert code == 0
    assert list(answer) == [*KEYS, *more.get(answer["task"], [])]
    assert answer["input"] == "The king had three sons."


# what is refused


@pytest.mark.parametrize(
    ("args", "stdin", "code", "phrase"),
    [
        (["summarize", ""], b"", 2, "empty prompt"),
        (["summarize"], b"", 2, "empty prompt"),
        (["translate"], b"a\xff\xfe\x00", 65, "standard input: invalid UTF-8 at byte 1"),
        (["summarize"], b"word " * 2_000_000, 65, "more than 4 MiB"),
        (["classify", "x", "--labels", "good"], b"", 2, "nothing to choose between"),
        (["classify", "x", "--labels", "good,bad,good"], b"", 2, "twice"),
        (["classify", "x", "--labels", "good,Good"], b"", 2, "twice"),
        (["classify", "x", "--labels", "good," + "bad " * 999], b"", 65, "context"),
        (["classify", "x", "--example", "good"], b"", 2, "'good' is no pair"),
        (["translate", "x", "--example", "a = "], b"", 2, "'a = ' is no pair"),
        (["run", "trnslate", "x"], b"", 2, "Did you mean translate?"),
        (["answer", "What?", "--context", "./missing.txt"], b"", 66, "file ./missing.txt"),
        (["translate", "x", "--lines", "--stream"], b"", 2, "--stream: the answers to several"),
        (["translate", "x", "--logprobs", "2"], b"", 2, "--logprobs: text cannot hold them"),
    ],
)
def test_a_bad_input_is_refused_in_one_line(
    main_in: Cli, args: list[str], stdin: bytes, code: int, phrase: str
) -> None:
    found, out, err = main_in(*args, *TALES, stdin=stdin)
    assert (found, out) == (code, "")
    assert phrase in err
    assert err.startswith("gptcli: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("description = ", "not TOML"),
        ('description = "Mine."\nprompt = "{input}"\ncolour = 1\n', "colour"),
    ],
)
def test_a_broken_task_of_the_users_is_refused(
    main_in: Cli, mine: Path, text: str, phrase: str
) -> None:
    (mine / "broken.toml").write_text(text)
    code, out, err = main_in("run", "broken", "x", *TALES)
    assert (code, out) == (65, "")
    assert phrase in err
    assert "broken.toml" in err


def test_a_bad_input_ends_a_real_process_with_its_code(process: Process) -> None:
    done = process("summarize", "")
    assert (done.returncode, done.stdout) == (2, b"")
