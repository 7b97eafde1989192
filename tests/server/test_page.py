"""The page of gptcli serve without a browser: headers, policy, how its script reads tokens."""

from __future__ import annotations

import asyncio
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gptcli.server.page import files as module
from gptcli.server.page.files import page_files
from gptcli.web.assets import shared

FILES = page_files()
FOLDER = Path(module.__file__).parent
INDEX = FILES["/"].body.decode()
SCRIPTS = {path: file.body.decode() for path, file in FILES.items() if path.endswith(".js")}
STYLE = shared("base.css") + (FOLDER / "page.css").read_text(encoding="utf-8")
VOID = {"meta", "link", "input", "br"}


def asked(path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What the application answers: status, headers, body."""
    from starlette.routing import Route, Router

    from gptcli.server.app import ROUTES, PathEndpoint

    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(name.replace("_", "-").encode(), it.encode()) for name, it in headers.items()],
    }
    endpoint = PathEndpoint(None, {"GET": ROUTES["GET", path]})  # type: ignore[arg-type]
    asyncio.run(Router([Route(path, endpoint)])(scope, receive, send))
    start, body = sent
    return (
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        body["body"],
    )


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_served_with_its_type_and_nothing_sniffs_or_frames_it(path: str) -> None:
    status, headers, body = asked(path)
    assert (status, body) == (200, FILES[path].body)
    kind = {"": "text/html", ".css": "text/css", ".js": "text/javascript"}[Path(path).suffix]
    assert headers["content-type"] == f"{kind}; charset=utf-8"
    assert int(headers["content-length"]) == len(body)
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("match", ["{}", "W/{}", '"other", {}', "*"])
def test_a_file_that_the_client_has_is_not_sent_again(match: str) -> None:
    _, headers, _ = asked("/page/page.js")
    status, again, body = asked("/page/page.js", if_none_match=match.format(headers["etag"]))
    assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert asked("/page/page.js", if_none_match='"other"')[0] == 200


def test_files_have_tags_of_their_own() -> None:
    assert len({file.tag for file in FILES.values()}) == len(FILES)


def test_the_policy_allows_the_servers_own_files_and_routes_alone() -> None:
    _, headers, _ = asked("/")
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert {rules[f"{kind}-src"] for kind in ("script", "style", "connect")} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]


class Tags(html.parser.HTMLParser):
    """The tags of a page with their attributes; fails where they do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.inline = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.inline += data


TAGS = Tags(INDEX).tags


def test_the_page_has_no_inline_script_or_style() -> None:
    assert Tags(INDEX).inline == ""
    names = {name for _, attributes in TAGS for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


def test_the_page_loads_what_is_served_by_relative_addresses() -> None:
    loaded = [
        given[name] or ""
        for tag, given in TAGS
        for name in ("src", "href")
        if name in given and given[name] != "data:,"
    ]
    assert sorted(f"/{address}" for address in loaded) == sorted(set(FILES) - {"/"})
    for text in (*SCRIPTS.values(), STYLE, INDEX):
        assert not re.search(r"https?://|[\"'`(]//\w|url\(", text)
    assert not re.search(r"[\"'`]/\w", SCRIPTS["/page/client.js"])


def test_ids_are_unique_and_every_control_has_a_name() -> None:
    ids = [given["id"] for _, given in TAGS if "id" in given]
    assert len(ids) == len(set(ids))
    labelled = {given.get("for") for tag, given in TAGS if tag == "label"}
    wrapped = re.findall(r"<label><input[^>]* id=\"([\w-]+)\"", INDEX)
    for tag, given in TAGS:
        if tag in ("input", "textarea", "select"):
            assert given["id"] in {*labelled, *wrapped} or given.get("aria-label"), given
    for _, given in TAGS:
        for name in ("aria-describedby", "aria-labelledby", "for"):
            assert given.get(name) is None or given[name] in ids


def test_every_id_that_the_scripts_name_is_on_the_page() -> None:
    ids = {given["id"] for _, given in TAGS if "id" in given}
    for text in SCRIPTS.values():
        named = re.findall(r"(?:byId|enable|onPress|getElementById)\(\"([\w-]+)\"", text)
        assert set(named) <= ids


@pytest.mark.parametrize("sink", ["innerHTML", "outerHTML", "insertAdjacent", "document.write"])
def test_no_script_makes_markup_from_a_string(sink: str) -> None:
    assert not [path for path, script in SCRIPTS.items() if sink in script]


# ---- The scripts in Node

node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@node
@pytest.mark.parametrize("path", SCRIPTS)
def test_a_script_has_no_syntax_error(path: str, tmp_path: Path) -> None:
    file = tmp_path / "script.js"
    file.write_text(SCRIPTS[path], encoding="utf-8")
    subprocess.run(["node", "--check", file], check=True, timeout=60)


CASES = """
const part = (name, logprob = -1, top = []) => ({ name, logprob, top });
const names = (...all) => all.map((name) => part(name));
const shown = (groups) => groups.map(({ text, start, end }) => [text, start, end]);
const over = (text, from, ...all) => shown(placed(groupsOf(names(...all)), text, from));
const han = ["bytes:\\\\xe6", "bytes:\\\\xbc", "bytes:\\\\xa2"];
const group = (start, end) => ({ start, end });
const top = [["bytes:\\\\xa1", -2], [" x", -3], [han[2], -1]];
const choice = choicesOf({ parts: [part(han[0]), part(han[1]), part(han[2], -1, top)] });
const taken = { name: " bc", text: " bc", logprob: -2 };
console.log(JSON.stringify({
  plain: over("Once upon", 0, "Once", " upon"),
  later: over("Once upon", 4, " upon"),
  joined: over("a\\u6f22!", 0, "a", ...han, "!"),
  unfinished: groupsOf(names("a", han[0]), true).map(({ text }) => text),
  broken: over("a\\ufffdb", 0, "a", han[0], "b"),
  emoji: over("\\u{1f600}x", 0, "bytes:\\\\xf0\\\\x9f", "bytes:\\\\x98\\\\x80", "x"),
  cut: over("one tw", 0, "one", " two"),
  end: over("one", 0, "one", "<|endoftext|>"),
  stripped: over("Once upon", 0, " Once", " upon"),
  lines: over("a\\nb", 0, "a", "\\r", "\\n", "b"),
  sum: groupsOf([part(han[0], -1), part(han[1], -2), part(han[2], -0.5)])[0].logprob,
  first: groupsOf([part("x", null)])[0].logprob,
  kept: untouched([group(0, 3), group(3, 6)], "onetwo", "one two").length,
  all: untouched([group(0, 3), group(3, 6)], "onetwo", "onetwo more").length,
  at: [0, 2, 3, 6].map((place) => groupAt([group(0, 3), group(3, 6)], place)?.start ?? null),
  outside: groupAt([group(0, 3)], 5) ?? null,
  choices: choice[2].map(({ text, own }) => [text, own]),
  taken: [groupOfChoice({ parts: names("a"), start: 4, end: 5 }, 0, taken)]
    .map(({ start, end, logprob }) => [start, end, logprob]),
  bands: [0, -0.6, -1, -3, -5, -100].map(band),
  percents: [0, Math.log(0.5), Math.log(0.0123), -100].map(percent),
}));
"""


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    """What tokens.js makes of the cases."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    ran = subprocess.run(
        ["node", "-"],
        input=SCRIPTS["/page/tokens.js"] + CASES,
        capture_output=True,
        check=True,
        timeout=60,
        encoding="utf-8",
    )
    return json.loads(ran.stdout)


def test_tokens_lie_where_they_stand_in_the_text(found) -> None:
    assert found["plain"] == [["Once", 0, 4], [" upon", 4, 9]]
    assert found["later"] == [[" upon", 4, 9]]


def test_parts_of_a_character_are_shown_together(found) -> None:
    assert found["joined"] == [["a", 0, 1], ["漢", 1, 2], ["!", 2, 3]]
    assert found["emoji"] == [["😀", 0, 2], ["x", 2, 3]]
    assert found["unfinished"] == ["a"]
    assert found["broken"] == [["a", 0, 1], ["\ufffd", 1, 2], ["b", 2, 3]]
    assert found["sum"] == -3.5


def test_what_is_not_in_the_text_has_no_colour(found) -> None:
    assert found["cut"] == [["one", 0, 3]]
    assert found["end"] == [["one", 0, 3]]


def test_spaces_and_line_ends_that_the_text_lacks_move_nothing(found) -> None:
    assert found["stripped"] == [[" Once", 0, 4], [" upon", 4, 9]]
    assert [text for text, *_ in found["lines"]] == ["a", "\n", "b"]


def test_an_edit_leaves_the_tokens_before_it(found) -> None:
    assert (found["kept"], found["all"]) == (1, 2)


def test_the_caret_is_at_the_token_that_goes_on_there(found) -> None:
    assert found["at"] == [0, 0, 3, 3]
    assert found["outside"] is None


def test_an_alternative_completes_the_bytes_before_it_or_is_none(found) -> None:
    assert found["choices"] == [["漡", False], [None, False], ["漢", True]]
    assert found["taken"] == [[4, 7, -2]]


def test_probabilities_have_bands_and_percents(found) -> None:
    assert found["bands"] == [1, 1, 2, 3, 4, 4]
    assert found["percents"] == ["100 %", "50 %", "1.2 %", "< 0.01 %"]
    assert found["first"] is None


# ---- Colours


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2, "relative luminance"."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_legible_on_every_colour_of_a_token(scheme: int) -> None:
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", STYLE)
    colours = {name: luminance(both[scheme]) for name, *both in pairs}
    for number in (1, 2, 3, 4):
        dark, light = sorted((colours["ink"], colours[f"chance-{number}"]))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_bands_differ_without_colour() -> None:
    styles = re.findall(r"\n\.chance-\d \{.*border-bottom-style: (\w+)", STYLE)
    assert styles == ["dotted", "dashed", "double"]
