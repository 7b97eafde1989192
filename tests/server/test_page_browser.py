"""The page of gptcli serve in a real browser, over the real model, on a port of this machine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chromium import chromium
from support.served_here import Slowly, served_here

from gptcli.engines import open_engine
from gptcli.options import Load

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.browser
PREFIX = "/a/prefix"
KEY = "a-key"
BEGINNING = "Once upon a time"


class Front:
    """What stands before the server, as the tests set it: a prefix, keys, a full queue."""

    def __init__(self) -> None:
        self.app: Callable | None = None
        self.key: str | None = None
        self.busy = 0  # how many requests more are refused
        self.bodies: list[dict] = []

    def around(self, app: Callable) -> Callable:
        self.app = app
        return self

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].removeprefix(PREFIX)}
            headers = dict(scope["headers"])
            if scope["path"].startswith("/v1/"):
                if self.key and headers.get(b"authorization") != f"Bearer {self.key}".encode():
                    await refuse(send, 401, "no such key")
                    return
                if self.busy and scope["method"] == "POST":
                    self.busy -= 1
                    await refuse(send, 429, "9 requests are waiting", (b"retry-after", b"1"))
                    return
                receive = self.recording(receive)
        await self.app(scope, receive, send)

    def recording(self, receive: Callable) -> Callable:
        async def record() -> dict:
            message = await receive()
            if body := message.get("body"):
                self.bodies.append(json.loads(body))
            return message

        return record


async def refuse(send: Callable, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": {"message": why, "code": None}}).encode()
    pairs = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class Server:
    """The address, and what a test looks at or changes."""

    def __init__(self, address: str, service, engine: Slowly, front: Front) -> None:
        self.address, self.service, self.engine, self.front = address, service, engine, front


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    engine, front = Slowly(open_engine(Load(model="tiny-tales"))), Front()
    with served_here(engine, front.around) as (address, service):
        yield Server(address, service, engine, front)


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    yield running
    running.engine.pause, running.front.key, running.front.busy = 0.0, None, 0
    running.front.bodies.clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as running:
        yield running


@pytest.fixture
def shown(browser, server: Server) -> Iterator[Callable]:
    """A function that opens the page; a request to elsewhere or any error fails the test."""
    troubles: list[str] = []
    contexts = []

    def show(text: str = "", width: int = 1280, scheme: str = "light", prefix: str = PREFIX):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        base = f"{server.address}{prefix}/"

        def seen(request) -> None:
            if not request.url.startswith((base, f"blob:{server.address}", "data:,")):
                troubles.append(request.url)

        page.on("request", seen)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.goto(base)
        if text:
            page.locator("#editor").fill(text)
        return page

    yield show
    for context in contexts:
        context.close()
    told = [one for one in troubles if not re.search(r"status of (401|429|400)", one)]
    assert told == []


def told(page, words: str) -> None:
    """Wait until the status says so."""
    sync_api.expect(page.locator("#status")).to_contain_text(words)


def text_of(page) -> str:
    return page.locator("#editor").input_value()


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def written(page, seed: int | None = None, tokens: int = 12) -> str:
    """Continue the text; all of it afterwards."""
    if page.locator("#settings-box").get_attribute("open") is None:
        page.locator("#settings-box summary").click()
    page.get_by_label("Tokens to write").fill(str(tokens))
    if seed is not None:
        page.get_by_label("Seed", exact=True).fill(str(seed))
    press(page, "Continue")
    told(page, "Wrote")
    return text_of(page)


def put_caret(page, place: int) -> None:
    page.evaluate(
        """async (place) => {
          const editor = document.getElementById("editor");
          editor.focus();
          editor.setSelectionRange(place, place);
          await new Promise((done) => setTimeout(done, 100)); // until the page has heard of it
        }""",
        place,
    )


def test_a_text_is_continued_in_place(shown, server: Server) -> None:
    page = shown(BEGINNING)
    text = written(page)
    assert text.startswith(BEGINNING)
    assert len(text) > len(BEGINNING)
    assert "of 512 tokens" in page.locator("#count").inner_text()
    assert page.get_by_role("heading", level=1).inner_text().startswith("tiny-tales")
    [body] = server.front.bodies
    assert (body["prompt"], body["max_tokens"], body["stream"]) == (BEGINNING, 12, True)


def test_the_text_below_the_editor_lies_exactly_under_it(shown) -> None:
    page = shown(f"{BEGINNING} שלום עולם 漢字 مرحبا\n\n", width=380)
    written(page)
    heights = page.evaluate(
        "[under.textContent === editor.value + '\\n', editor.scrollHeight === editor.offsetHeight]"
    )
    assert heights == [True, True]


def test_the_same_seed_writes_the_same_text(shown) -> None:
    page = shown(BEGINNING)
    first = written(page, seed=7)
    told(page, "with seed 7")
    press(page, "Undo")
    assert text_of(page) == BEGINNING
    assert written(page) == first
    press(page, "Undo")
    assert written(page, seed=8) != first


def test_a_seed_that_was_drawn_is_shown_and_repeats_the_text(shown) -> None:
    page = shown(BEGINNING)
    first = written(page)
    seed = page.get_by_label("Seed", exact=True).input_value()
    told(page, f"with seed {seed}")
    press(page, "Undo")
    page.get_by_label("A new seed each time").uncheck()
    assert written(page) == first
    press(page, "Another seed")
    assert page.get_by_label("Seed", exact=True).input_value() != seed


@pytest.mark.parametrize("how", ["button", "Escape", "close"])
def test_stop_frees_the_engine(shown, server: Server, how: str) -> None:
    server.engine.pause = 0.03
    page = shown(BEGINNING)
    page.get_by_label("Tokens to write").fill("400")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#editor")).not_to_have_value(BEGINNING)
    assert server.service.engine.running == 1
    if how == "button":
        press(page, "Stop")
    elif how == "Escape":
        page.keyboard.press("Escape")
    else:
        page.close()
    deadline = time.monotonic() + 5  # all 400 tokens would take 12 s
    while server.service.engine.running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.service.engine.running == 0
    if how == "close":
        return
    told(page, ": stopped.")
    text = text_of(page)
    server.engine.pause = 0.0
    assert written(page).startswith(text)


def test_undo_and_redo_go_through_texts_and_typing(shown) -> None:
    page = shown(BEGINNING)
    first = written(page)
    editor = page.locator("#editor")
    editor.press("End")
    editor.press_sequentially(" XYZ")
    typed = text_of(page)
    for expected in (first, BEGINNING, ""):
        editor.press("Control+z")
        assert text_of(page) == expected
    for expected in (BEGINNING, first, typed):
        editor.press("Control+Shift+Z")
        assert text_of(page) == expected


def test_a_text_is_written_anew(shown) -> None:
    page = shown(BEGINNING)
    first = written(page, seed=7)
    press(page, "Regenerate")
    sync_api.expect(page.locator("#editor")).not_to_have_value(first)
    told(page, "Wrote")
    assert text_of(page).startswith(BEGINNING)
    assert page.locator("#history li").count() == 3


def test_tokens_have_the_colour_of_their_probability(shown) -> None:
    page = shown(BEGINNING)
    written(page)
    assert page.locator("#under .chance").count() == 12
    press(page, "Score")
    told(page, "bits a token")
    kinds = page.locator("#under .chance").evaluate_all("all => all.map((one) => one.className)")
    assert kinds[0] == "chance first"
    bands = {kind.removesuffix(" chosen").removeprefix("chance ") for kind in kinds[1:]}
    assert bands <= {f"chance-{number}" for number in (1, 2, 3, 4)}
    # "Once upon a time": 54 %, 65 % and 98 %, less the begin token that inspect reads before it.
    assert kinds[2].endswith(("1", "2"))
    assert kinds[3] == "chance chance-1"
    page.get_by_role("checkbox", name="Colours").uncheck()
    assert "plain" in page.locator("#under").get_attribute("class")


def test_an_edit_keeps_the_colours_before_it(shown) -> None:
    page = shown(BEGINNING)
    press(page, "Score")
    told(page, "Scored 4 tokens")
    put_caret(page, 9)  # after "upon"
    page.keyboard.type("!")
    assert page.locator("#under .chance").all_inner_texts() == ["Once", " upon"]


def test_a_click_on_a_token_lists_what_else_could_stand_there(shown) -> None:
    page = shown(BEGINNING)
    press(page, "Score")
    told(page, "Scored")
    box = page.locator("#under .chance").nth(1).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    sync_api.expect(page.locator("#token")).to_contain_text("·upon")
    values = page.locator("#alternatives data").evaluate_all("all => all.map((one) => +one.value)")
    assert len(values) == 8
    assert values == sorted(values, reverse=True)
    assert page.locator("#under .chosen").inner_text() == " upon"


def test_a_branch_replaces_the_token_and_goes_on(shown) -> None:
    page = shown(BEGINNING)
    first = written(page, seed=3)
    put_caret(page, len(BEGINNING))
    choice = page.locator("#alternatives button").first
    alternative = choice.inner_text().replace("·", " ").replace("↵", "\n")
    choice.click()
    told(page, "Wrote")
    branch = text_of(page)
    assert branch.startswith(BEGINNING + alternative)
    assert not first.startswith(BEGINNING + alternative)
    page.locator("#history-box summary").click()
    entries = page.locator("#history button")
    assert entries.count() == 3
    entries.nth(1).click()
    assert text_of(page) == first
    press(page, "Undo")
    assert text_of(page) == branch


def test_a_branch_may_wait_for_its_continuation(shown, server: Server) -> None:
    page = shown(BEGINNING)
    page.get_by_label("Go on from a choice").uncheck()
    press(page, "What may follow the text?")
    told(page, "What may follow is listed")
    focused = page.evaluate("document.activeElement.closest('#alternatives') !== null")
    assert focused
    page.keyboard.press("Enter")
    assert text_of(page) != BEGINNING
    assert len(server.front.bodies) == 1


def test_parts_of_a_character_are_one_token_of_the_page(shown) -> None:
    page = shown("a 漢")
    press(page, "Score")
    told(page, "Scored")
    assert page.locator("#under .chance").last.inner_text() == "漢"
    put_caret(page, 2)
    assert "tokens\t3" in page.locator("#token").inner_text().replace("\n", "\t")
    assert page.locator("#alternatives h3").count() == 3


def test_everything_can_be_done_by_keyboard(shown) -> None:
    page = shown()
    keys = page.keyboard

    def reach(selector: str, key: str = "Tab") -> None:
        for _ in range(40):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid"
                return
            keys.press(key)
        raise AssertionError(selector)

    reach("#editor")
    keys.type(BEGINNING)
    reach("#max_tokens")
    keys.press("Control+a")
    keys.type("5")
    reach("#editor", "Shift+Tab")
    keys.press("Control+Enter")
    told(page, "Wrote 5 tokens")
    first = text_of(page)
    keys.press("Control+Home")
    for _ in range(len(BEGINNING)):
        keys.press("ArrowRight")
    reach("#alternatives button")
    keys.press("ArrowDown")
    keys.press("Enter")
    sync_api.expect(page.locator("#editor")).not_to_have_value(first)
    told(page, "Wrote 5 tokens")
    for name in ("stop", "undo", "redo", "regenerate", "score", "colours"):
        reach(f"#{name}", "Shift+Tab" if name == "stop" else "Tab")
    keys.press("Space")
    assert not page.locator("#colours").is_checked()


def test_a_key_is_asked_for_and_kept_for_the_tab(shown, server: Server) -> None:
    server.front.key = KEY
    page = shown()
    field = page.get_by_label("The server asks for a key")
    field.fill("wrong")
    field.press("Enter")
    sync_api.expect(page.locator("#reason")).to_contain_text("no such key")
    field.fill(KEY)
    field.press("Enter")
    sync_api.expect(page.get_by_role("heading", level=1)).to_contain_text("tiny-tales")
    assert not field.is_visible()
    page.locator("#editor").fill(BEGINNING)
    written(page)
    page.reload()
    sync_api.expect(page.get_by_role("heading", level=1)).to_contain_text("tiny-tales")
    assert KEY not in page.evaluate("JSON.stringify(localStorage)")


def test_a_full_queue_is_waited_for(shown, server: Server) -> None:
    server.front.busy = 1
    page = shown(BEGINNING)
    press(page, "Continue")
    sync_api.expect(page.locator("#reason")).to_contain_text("9 requests are waiting")
    told(page, "Wrote")
    assert not page.locator("#trouble").is_visible()
    server.front.busy = 9
    press(page, "Continue")
    sync_api.expect(page.locator("#trouble")).to_be_visible()
    press(page, "Stop")
    told(page, "Stopped")


def test_a_refusal_says_what_the_server_said(shown) -> None:
    page = shown(BEGINNING)
    page.get_by_label("Top p").fill("7")
    press(page, "Continue")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("top_p")
    assert text_of(page) == BEGINNING
    page.get_by_label("Top p").fill("1")
    press(page, "Try again")
    told(page, "Wrote")


def test_of_a_text_beyond_the_context_the_end_is_sent_if_that_is_wished(
    shown, server: Server
) -> None:
    text = "The king rode on. " * 400
    page = shown(text)
    press(page, "Continue")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("context is 512")
    page.get_by_label("send the end only").check()
    assert written(page).startswith(text)
    prompt = server.front.bodies[-1]["prompt"]
    assert text.endswith(prompt)
    assert len(prompt) > 1000


def test_a_text_and_settings_outlive_the_tab(shown) -> None:
    page = shown(BEGINNING)
    text = written(page, seed=5)
    page.get_by_label("Preset", exact=True).select_option("careful")
    page.reload()
    assert text_of(page) == text
    assert page.get_by_label("Temperature").input_value() == "0.6"
    page.get_by_label("Name of a preset").fill("mine")
    press(page, "Save as")
    page.get_by_label("Preset", exact=True).select_option("always the likeliest")
    assert page.get_by_label("Temperature").input_value() == "0"
    page.reload()
    page.get_by_label("Preset", exact=True).select_option("mine")
    assert page.get_by_label("Temperature").input_value() == "0.6"


def test_a_space_at_the_end_is_told(shown) -> None:
    page = shown(BEGINNING)
    count = page.locator("#count")
    assert "space" not in count.inner_text()
    page.locator("#editor").fill(f"{BEGINNING} ")
    sync_api.expect(count).to_contain_text("a space at the end")


def test_stop_strings_may_hold_line_ends(shown, server: Server) -> None:
    page = shown(BEGINNING)
    page.get_by_label("Stop at").fill("\\n\\n\nThe end")
    written(page)
    assert server.front.bodies[-1]["stop"] == ["\n\n", "The end"]


def test_a_text_goes_to_a_file_and_comes_from_one(shown, tmp_path: Path) -> None:
    page = shown("Ünïcode 漢\n")
    page.locator("#file-box summary").click()
    with page.expect_download() as downloading:
        press(page, "Download")
    file = tmp_path / "text.txt"
    downloading.value.save_as(file)
    assert file.read_text(encoding="utf-8") == "Ünïcode 漢\n"
    file.write_bytes(b"one\r\ntwo")
    page.get_by_label("Open a text file").set_input_files(file)
    told(page, "The file is open")
    assert text_of(page) == "one\ntwo"
    file.write_bytes(b"\xff\xfe")
    page.get_by_label("Open a text file").set_input_files(file)
    sync_api.expect(page.get_by_role("alert")).to_contain_text("no text in UTF-8")
    assert text_of(page) == "one\ntwo"


@pytest.mark.parametrize("payload", ["<img src=x onerror=alert(1)>", "</textarea><script>1"])
def test_markup_in_a_text_stays_text(shown, payload: str) -> None:
    page = shown(payload)
    press(page, "Score")
    told(page, "Scored")
    assert page.locator("#under img, #under script").count() == 0
    assert page.locator("#under").evaluate("node => node.textContent") == payload + "\n"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_the_page_fits_and_follows_the_scheme(shown, width: int, scheme: str) -> None:
    page = shown(BEGINNING, width=width, scheme=scheme, prefix="")
    press(page, "Continue")
    told(page, "Wrote")
    for box in page.locator("details").all():
        if box.get_attribute("open") is None:
            box.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 26)"
    assert page.evaluate(paper) == (light if scheme == "light" else dark)
    press(page, "Light or dark")
    page.reload()
    assert page.evaluate(paper) == (dark if scheme == "light" else light)
