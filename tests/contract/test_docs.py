"""README and guides say what happens: every console block runs, every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console import (
    DOCS,
    EXAMPLES,
    ROOT,
    Outcome,
    Step,
    blocks,
    comparable,
    played,
    programs,
    ready,
    renewed,
    same,
    session,
    steps,
)

GUIDES = sorted(DOCS.glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
MAP = ROOT / "gptcli" / "README.md"
OTHERS = [MAP, ROOT / ".github" / "CONTRIBUTING.md", ROOT / "tests" / "README.md"]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]+)?\)")
ERROR = "gptcli: error:"
LANGUAGES = ("console", "sh", "python", "toml", "nginx")
MOST_PROCESSES = 75  # of gptcli in all pages: each takes a third of a second


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


runnable = [page for page in PAGES if steps(text(page))]


@pytest.fixture(scope="module")
def gptcli() -> Iterator[list[str]]:
    with ready() as words:
        yield words


@pytest.mark.parametrize("page", runnable, ids=name)
def test_console_blocks_run_as_they_are_printed(
    page: Path, tmp_path: Path, gptcli: list[str]
) -> None:
    shown = steps(text(page))
    outcomes = played(text(page), tmp_path.resolve() / "session", gptcli)
    assert len(outcomes) == len(shown)
    for step, outcome in zip(shown, outcomes, strict=True):
        if not same(step.output, outcome.output):  # show how they differ
            assert f"$ {step.command}\n{step.output}" == f"$ {step.command}\n{outcome.output}"
        assert outcome.status == 0 or ERROR in outcome.output, step.command


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_links_lead_to_files(page: Path) -> None:
    for target, _ in LINK.findall(text(page)):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    fences = [line for line in text(page).split("\n") if line.startswith("```")]
    assert set(fences[0::2]) <= {f"```{language}" for language in LANGUAGES}
    assert set(fences[1::2]) <= {"```"}


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_program_of_a_guide_has_a_name_and_is_run(page: Path) -> None:
    for program in programs(text(page)):
        assert f"python {program}" in [step.command for step in steps(text(page))]


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_task_of_a_guide_is_a_file_of_the_examples(page: Path) -> None:
    files = [text(file) for file in EXAMPLES.iterdir()]
    for _, lines in blocks(text(page), "toml"):
        assert "\n".join(lines) + "\n" in files


@pytest.mark.parametrize("file", sorted(EXAMPLES.iterdir()), ids=name)
def test_every_example_file_is_read_by_a_page(file: Path) -> None:
    commands = " ".join(step.command for page in PAGES for step in steps(text(page)))
    assert file.name in commands


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_a_guide_begins_with_a_title_and_a_summary(guide: Path) -> None:
    title, summary, *_ = text(guide).split("\n\n")
    assert title.startswith("# ")
    assert summary.endswith(".")
    assert len(" ".join(summary.split()).partition(". ")[0]) <= 100  # it stands in the list


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_readme_links_every_guide(guide: Path) -> None:
    assert f"]({name(guide)})" in text(ROOT / "README.md")


def test_readme_and_map_are_short() -> None:
    assert len(text(ROOT / "README.md").splitlines()) <= 150
    assert len(text(MAP).splitlines()) <= 120


def test_examples_of_all_pages_are_few() -> None:
    commands = [step.command for page in PAGES for step in steps(text(page))]
    assert sum(len(re.findall(r"\bgptcli [a-z-]", command)) for command in commands) <= (
        MOST_PROCESSES
    )


def test_a_block_is_taken_apart() -> None:
    page = "# A\n\n```sh\n$ not run\n```\n\n```console\n$ one \\\n> more\nout\n\nput\n$ two\n```\n"
    assert steps(page) == [Step("one \\\nmore", "out\n\nput\n", 9, 12), Step("two", "", 13, 13)]


def test_only_timing_is_not_compared() -> None:
    said = "20 tokens in 0.06 s (323.4 tokens/s); first token after 0.01 s; seed 1"
    assert comparable(said) == "20 tokens in N s (N tokens/s); first token after N s; seed 1"


@pytest.mark.parametrize(
    ("written", "equal"),
    [
        ("a 1.25 b -0.30\n", True),
        ("a 1.26 b -0.29\n", True),
        ("a 1.27 b -0.30\n", False),
        ("a 1.3 b -0.30\n", False),
        ("a 1.25 c -0.30\n", False),
        ("a 1.25 b 0.30\n", False),
        ("a 1.25 b -0.30 0.1\n", False),
        ("a 2 b\n", False),
    ],
)
def test_the_last_decimal_may_differ_by_one(written: str, equal: bool) -> None:
    assert same("a 1.25 b -0.30\n", written) == equal


def test_a_page_is_written_anew_where_it_is_wrong() -> None:
    page = "# A\n\n```console\n$ one\nold 0.1 s\n$ two\n$ three\nx\n\ny\n```\n"
    outcomes = [Outcome("old 0.2 s\n", 0), Outcome("new\n", 0), Outcome("", 0)]
    assert renewed(page, outcomes) == (
        "# A\n\n```console\n$ one\nold 0.1 s\n$ two\nnew\n$ three\n```\n"
    )


def test_a_session_shows_output_errors_and_status(tmp_path: Path) -> None:
    outcomes = session(
        ["x=1; echo a", "echo $x >&2; echo b", "false", "ls tales.txt"], tmp_path / "s"
    )
    assert [(it.output, it.status) for it in outcomes] == [
        *[("a\n", 0), ("1\nb\n", 0), ("", 1), ("tales.txt\n", 0)]
    ]
