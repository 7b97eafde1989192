"""`gptcli inspect`: what each view prints, what its files hold, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyte
import pytest
from support.commands import REAL, TALES, Terminal, environment, run

from gptcli.cli.output import heatmaps, pictures, render
from gptcli.cli.output.drawing import Canvas, bar, cropped, plain, shade
from gptcli.engines import open_engine
from gptcli.inspection import page, reading
from gptcli.inspection.views import View
from gptcli.options import Filters, Load
from gptcli.system.text.characters import width

Cli = Callable[..., tuple[int, str, str]]
TEXT = "Once upon a time there was a king"
VIEWS = ["text", "next", "attention", "lens", "attribution", "tokens"]
HOSTILE = "Once \x1b]0;owned\x07\x1b[2J \u202e[red]king[/red] 👩\u200d🚀 שלום\r\n\ttab\x9b31m\x00"
PIPE, COLOURS = Canvas(None, styled=False), Canvas(80, styled=True)


def tokens_of(text: str) -> list[int]:
    """The ids of a text in tiny-tales."""
    return open_engine(Load(model="tiny-tales")).tokenizer.encode(text)


@pytest.fixture
def cli(main_in: Cli) -> Cli:
    """A function that runs `gptcli inspect` on tiny-tales; gives code, stdout, stderr."""
    return lambda *args, stdin=b"": main_in("inspect", *args, *TALES, stdin=stdin)


@pytest.fixture(scope="module")
def drawings(tales: Path) -> dict[str, Callable[[Canvas], list]]:
    """Every drawing of a hostile text."""
    engine = open_engine(Load(model=str(tales)))
    inside = reading.inside(engine)
    text = reading.text_view(engine, HOSTILE)
    following = reading.next_view(inside, HOSTILE, Filters(top_k=3), 6)
    attention = reading.attention_view(inside, HOSTILE)
    lens = reading.lens_view(inside, HOSTILE)
    attribution = reading.attribution_view(inside, HOSTILE)
    return {
        "text": lambda canvas: pictures.coloured(text, True),
        "probability": lambda canvas: pictures.coloured(text, False),
        "table": lambda canvas: pictures.measured(text),
        "tokens": lambda canvas: pictures.tokens(text),
        "next": lambda canvas: pictures.following(following, canvas),
        "attention": lambda canvas: heatmaps.heatmap(
            attention, attention.weights[0, 0], "title", canvas
        ),
        "grid": lambda canvas: heatmaps.grid(attention, canvas),
        "lens": lambda canvas: pictures.lens(lens, 3, canvas),
        "lens grid": lambda canvas: heatmaps.lens_grid(lens, canvas),
        "attribution": lambda canvas: pictures.attribution(attribution, canvas),
    }


DRAWINGS = [
    *("text", "probability", "table", "tokens", "next", "attention", "grid", "lens"),
    *("lens grid", "attribution"),
]


# Which command


def test_a_bare_text_is_read_token_by_token(cli: Cli) -> None:
    assert cli(TEXT) == cli("text", TEXT)
    lines = cli(TEXT)[1].splitlines()
    assert lines[0].split() == ["token", "rank", "prob", "entropy", "likeliest"]
    assert [line.split()[1] for line in lines[1:4]] == ["Once", "␣upon", "␣a"]


def test_options_before_the_text_are_those_of_the_bare_command(cli: Cli) -> None:
    assert cli("--top", "1", TEXT) == cli("text", "--top", "1", TEXT)


@pytest.mark.parametrize("before", [["text"], [*TALES, "--"]])
def test_a_text_can_be_a_commands_name(main_in: Cli, before: list[str]) -> None:
    flags = [] if "--" in before else TALES  # they come before it
    code, out, _ = main_in("inspect", *before, "next", *flags)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:3]] == ["ne", "xt"]


def test_piped_text_needs_no_argument(cli: Cli) -> None:
    assert cli(stdin=b"Once upon\n") == cli("Once upon")
    assert cli("next", stdin=b"Once upon\n") == cli("next", "Once upon")


def test_help_lists_the_views(main_in: Cli) -> None:
    code, out, _ = main_in("inspect", "--help")
    assert code == 0
    assert all(name in out for name in VIEWS)


# What a pipe gets


def test_next_shows_what_the_settings_leave(cli: Cli) -> None:
    settings = ["--top-k", "2", "--top-p", "1", "-t", "1", "--no-bos"]
    out = cli("next", "Once upon a", "--top", "3", *settings)[1]
    first, _, _, time, certain, third = out.splitlines()
    assert first.startswith("top_k 2: 2 tokens remain; entropy 0.944 bits")
    assert time.split()[0] == "␣time"
    assert re.fullmatch(r"␣certain +0\.8% ▎ +0\.8% ▎", certain)
    assert third.endswith(" -")


def test_attention_shows_a_row_a_token(cli: Cli) -> None:
    lines = cli("attention", "Once upon a time", "--layer", "0", "--head", "1")[1].splitlines()
    assert lines[0] == "layer 0, head 1"
    assert lines[2] == "     <|endoftext|>  ██"
    assert lines[3].startswith("   0 Once           ")
    assert [len(line) for line in lines[2:7]] == [22, 24, 26, 28, 30]


def test_attention_without_a_begin_token_has_the_text_alone(cli: Cli) -> None:
    flags = ["--layer", "0", "--head", "1", "--no-bos"]
    lines = cli("attention", "Once upon a time", *flags)[1].splitlines()
    assert lines[2] == "   0 Once           ██"
    assert [len(line) for line in lines[2:6]] == [22, 24, 26, 28]
    assert lines[-1].endswith("the text was read alone, without a begin token before it")


def test_attention_of_no_head_is_the_mean_of_the_last_layer(cli: Cli) -> None:
    assert cli("attention", TEXT)[1].startswith("layer 5, mean of 6 heads\n")


@pytest.mark.parametrize(("flags", "maps"), [([], 36), (["--layer", "2"], 6), (["--head", "3"], 6)])
def test_all_is_a_grid_of_what_is_asked_for(cli: Cli, flags: list[str], maps: int) -> None:
    assert len(re.findall(r"L\d H\d", cli("attention", TEXT, "--all", *flags)[1])) == maps


def test_lens_shows_a_line_a_layer(cli: Cli) -> None:
    lines = cli("lens", "Once upon a", "--top", "1")[1].splitlines()
    assert lines[0].startswith("after token 2, ␣a: rank of ␣time")
    names = ["embeddings", *(str(layer) for layer in range(6))]
    assert [line.split()[0] for line in lines[3:10]] == names
    assert lines[9].split()[1:3] == ["1", "␣time"]


def test_lens_of_another_position(cli: Cli) -> None:
    assert cli("lens", "Once upon a", "--position", "0")[1].startswith("after token 0, Once:")


def test_the_whole_lens_has_the_last_layer_first(cli: Cli) -> None:
    lines = cli("lens", "Once upon a", "--all")[1].splitlines()
    assert lines[0].split() == ["<|endofte…", "Once", "␣upon", "␣a"]
    assert lines[1].split()[::4] == ["5", "␣time"]
    assert [line.split()[0] for line in lines[1:8]] == [*"543210", "embeddings"]


def test_attribution_has_a_signed_bar_a_token(cli: Cli) -> None:
    out = cli("attribution", "Once upon a", "--target", " time")[1]
    assert out.startswith("what speaks for ␣time as the next token")
    assert re.findall(r"[+-]\d+\.\d{3} [█▒]", out)


def test_integrated_gradients_say_what_they_sum_to(cli: Cli) -> None:
    out = cli("attribution", "Once upon a", "--method", "integrated-gradients", "--steps", "40")[1]
    numbers = re.search(r"sum ([\d.-]+); log-odds .* are ([\d.-]+)", out)
    assert numbers
    assert float(numbers[1]) == pytest.approx(float(numbers[2]), abs=0.05)


def test_tokens_show_bytes(cli: Cli) -> None:
    lines = cli("tokens", "a tí")[1].splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["61", "74", "c3", "ad"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_pipe_gets_no_escape_and_one_newline_at_the_end(cli: Cli, view: str) -> None:
    code, out, err = cli(view, stdin=HOSTILE.encode())
    assert (code, err) == (0, "")
    assert not re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066-\u2069]", out)
    assert out.endswith("\n")
    assert not out.endswith("\n\n")


def test_a_last_space_is_spoken_of_only_where_the_text_goes_on(cli: Cli) -> None:
    assert "ends in a space" in cli("next", "Once ")[2]
    assert cli("attention", "Once ")[2] == ""


# One rule for what is read before the text


def probability_of_time(cli: Cli, *flags: str) -> dict[str, str]:
    """The probability of " time" after "Once upon a", as each view says it."""
    views = {
        "text": cli("Once upon a time", "--top", "0", *flags)[1].splitlines()[4],
        "next": cli("next", "Once upon a", "--top", "1", *flags)[1].splitlines()[3],
        "lens": cli("lens", "Once upon a", "--top", "1", *flags)[1].splitlines()[9],
        "attribution": cli("attribution", "Once upon a", *flags)[1].splitlines()[0],
    }
    return {name: re.findall(r"\d+\.\d%", line)[0] for name, line in views.items()}


def test_all_views_read_the_text_after_the_begin_token(cli: Cli) -> None:
    assert set(probability_of_time(cli).values()) == {"98.2%"}
    assert set(probability_of_time(cli, "--bos").values()) == {"98.2%"}


def test_all_views_read_the_text_alone_where_that_is_asked_for(cli: Cli) -> None:
    assert set(probability_of_time(cli, "--no-bos").values()) == {"92.8%"}


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "tokens"])
def test_every_view_names_the_rule(cli: Cli, view: str) -> None:
    assert "read after <|endoftext|>" in cli(view, TEXT)[1]
    assert "read alone" in cli(view, TEXT, "--no-bos")[1]
    assert json.loads(cli(view, TEXT, "--json")[1])["bos"] == "<|endoftext|>"
    assert json.loads(cli(view, TEXT, "--json", "--no-bos")[1])["bos"] is None


# Characters that spread over tokens


def test_a_part_of_a_character_is_shown_as_the_character(cli: Cli) -> None:
    lines = cli("tokens", "漢字 a")[1].splitlines()[1:]
    assert [line.split()[3] for line in lines] == [
        *("漢·1/3", "漢·2/3", "漢·3/3", "字·1/3", "字·2/3", "字·3/3", "␣a")
    ]
    assert "漢" in cli("attention", "漢字")[1]


# JSON and files


CSV = {
    "text": "index,id,text,bytes,start,end,surface,part,logprob,rank,entropy_bits,top",
    "next": "place,id,text,probability,kept",
    "attention": "layer,head,index,text,looks_at,looks_at_text,weight",
    "lens": "layer,index,text,final_rank,place,id,token,logprob",
    "attribution": "index,id,text,bytes,start,end,surface,part,score",
    "tokens": "index,id,text,bytes,start,end,surface,part",
}


@pytest.mark.parametrize("view", VIEWS)
def test_csv_has_a_row_for_each_number(cli: Cli, view: str, tmp_path: Path) -> None:
    code, out, err = cli(view, TEXT, "--format", "csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == CSV[view]
    counts = {"text": 8, "next": 20, "attention": 6 * 45, "lens": 7 * 9 * 5}
    assert len(list(csv.reader(io.StringIO(out)))) == 1 + counts.get(
        view, 9 if view == "attribution" else 8
    )
    assert cli(view, TEXT, "-o", str(tmp_path / "x.csv")) == (0, "", "")
    assert (tmp_path / "x.csv").read_text() == out


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [
        ("html", b"<!DOCTYPE"),
        ("svg", b"<svg"),
        ("png", b"\x89PNG"),
        ("npz", b"PK"),
        ("json", b"{\n"),
        ("jsonl", b'{"model"'),
        ("txt", b"   token"),
    ],
)
def test_the_suffix_of_the_output_says_what_is_written(
    cli: Cli, tmp_path: Path, suffix: str, begins: bytes
) -> None:
    target = tmp_path / f"x.{suffix}"
    assert cli(TEXT, "-o", str(target)) == (0, "", "")
    assert target.read_bytes().startswith(begins)


def test_a_format_that_is_named_overrides_the_suffix(cli: Cli, tmp_path: Path) -> None:
    assert cli(TEXT, "-o", str(tmp_path / "x.svg"), "--format", "text") == (0, "", "")
    assert (tmp_path / "x.svg").read_text() == cli(TEXT)[1]


# Colours by choice


def test_colours_can_be_forced_onto_a_pipe(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in cli(TEXT)[1]
    assert "\x1b[" in cli(TEXT, "--color", "always")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" in cli(TEXT, "--color", "always")[1]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("attention", TEXT)[1]
    assert "\x1b[" not in cli(TEXT, "--color", "never")[1]


def test_a_file_gets_no_colours_by_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli(TEXT, "-o", str(tmp_path / "x.txt")) == (0, "", "")
    assert "\x1b" not in (tmp_path / "x.txt").read_text()


@pytest.mark.parametrize("view", VIEWS)
def test_json_is_one_object(cli: Cli, view: str) -> None:
    code, out, err = cli(view, TEXT, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["model"], found["text"]) == ("tiny-tales", TEXT)


def test_json_lines_is_one_line(cli: Cli) -> None:
    out = cli(TEXT, "--format", "jsonl")[1]
    assert out.count("\n") == 1
    assert json.loads(out) == json.loads(cli(TEXT, "--json")[1])


def test_json_of_a_text_can_be_exact_where_the_drawing_is_short(cli: Cli) -> None:
    found = json.loads(cli("attention", TEXT, "--layer", "1", "--head", "2", "--json")[1])
    assert (found["layers"], found["heads"]) == ([1], [2])
    assert np.array(found["weights"]).shape == (1, 1, 9, 9)


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "tokens"])
def test_files_are_written_beside_the_view(cli: Cli, tmp_path: Path, view: str) -> None:
    names = {kind: str(tmp_path / f"x.{kind}") for kind in ("html", "svg", "png", "npz")}
    flags = [part for kind, name in names.items() for part in (f"--{kind}", name)]
    code, out, err = cli(view, TEXT, *flags)
    assert (code, err) == (0, "")
    assert out == cli(view, TEXT)[1]
    assert Path(names["html"]).read_text().startswith("<!")
    assert ElementTree.parse(names["svg"]).getroot().tag.endswith("svg")
    assert Path(names["png"]).read_bytes().startswith(b"\x89PNG\r\n")
    assert "ids" in np.load(io.BytesIO(Path(names["npz"]).read_bytes()))


def test_the_page_of_a_text_has_all_views(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paged: list[View] = []
    monkeypatch.setattr(
        "gptcli.cli.output.outlets.page", lambda title, views: paged.extend(views) or title
    )
    assert cli(TEXT, "--html", str(tmp_path / "x.html"))[0] == 0
    assert [type(view).__name__ for view in paged] == [
        *("TextView", "NextView", "AttentionView", "LensView", "AttributionView")
    ]
    assert (tmp_path / "x.html").read_text() == "gptcli inspect: tiny-tales"


def test_the_page_of_a_long_text_has_the_text_alone(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("Once upon a time " * 150, "--html", str(tmp_path / "x.html"), "-q")
    assert (code, err) == (0, "")
    err = cli("Once upon a time " * 150, "--html", str(tmp_path / "y.html"))[2]
    assert "the page shows the text alone: text too long" in err


def test_attention_is_left_out_of_a_page_where_it_is_too_large(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAX_WEIGHT_BYTES", 100)
    err = cli(TEXT, "--html", str(tmp_path / "x.html"))[2]
    assert "attention is left out of the page" in err


def test_output_goes_to_a_file(cli: Cli, tmp_path: Path) -> None:
    assert cli(TEXT, "-o", str(tmp_path / "x.txt")) == (0, "", "")
    assert (tmp_path / "x.txt").read_text() == cli(TEXT)[1]


# How it fails


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["text", ""], 2, "empty prompt"),
        (["attention", ""], 2, "empty prompt"),
        ([TEXT, "-o", "x.xlsx"], 2, ".xlsx stands for no format"),
        (["tokens", TEXT, "-o", "x.png"], 2, "tokens alone have no plot"),
        (["tokens", TEXT, "--svg", "x.svg"], 2, "tokens alone have no plot"),
        (["tokens", TEXT, "--server", "http://127.0.0.1:9/v1"], 2, "--server"),
        ([TEXT, "--server", "http://127.0.0.1:9/v1"], 2, "the model has to run here"),
        (["attention", TEXT, "--server", "http://127.0.0.1:9/v1"], 2, "has to run here"),
        (["attention", TEXT, "--layer", "6"], 2, "Give 0 to 5."),
        (["attention", TEXT, "--head", "-1"], 2, "--head"),
        (["lens", TEXT, "--position", "8"], 2, "Give 0 to 7."),
        (["attribution", TEXT, "--target", " two words"], 2, "tokens, not one"),
        (["attribution", TEXT, "--method", "magic"], 2, "--method"),
        ([TEXT, "--stride", "512"], 2, "--stride"),
        (["attention", "Once upon a time " * 150], 65, "the context of tiny-tales is 512"),
        (["-f", "/nowhere/at/all"], 66, "/nowhere/at/all"),
        ([TEXT, "--html", "/nowhere/x.html"], 73, "/nowhere/x.html"),
        ([TEXT, "--svg", "same", "--png", "same"], 2, "it is to hold two things"),
    ],
)
def test_bad_usage(cli: Cli, args: list[str], code: int, said: str) -> None:
    found, out, err = cli(*args)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_binary_input_is_refused(cli: Cli) -> None:
    code, out, err = cli("attention", stdin=bytes(range(256)))
    assert (code, out) == (65, "")
    assert "invalid UTF-8 at byte 128" in err


def test_no_file_is_left_where_nothing_could_be_shown(cli: Cli, tmp_path: Path) -> None:
    cli("attention", TEXT, "--layer", "99", "--svg", str(tmp_path / "x.svg"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_overwritten_unless_forced(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "x.npz"
    target.write_bytes(b"mine")
    assert cli(TEXT, "--npz", str(target))[0] == 73
    assert target.read_bytes() == b"mine"
    assert cli(TEXT, "--npz", str(target), "--force")[0] == 0
    assert target.read_bytes() != b"mine"


def test_an_empty_text_can_be_allowed(cli: Cli) -> None:
    code, out, _ = cli("next", "", "--allow-empty", "--top", "1")
    assert code == 0
    assert "␣" in out or "The" in out
    assert "<|endoftext|>" in cli("attention", "", "--allow-empty")[1]


def test_other_numbers_than_float32_are_said(cli: Cli) -> None:
    code, _, err = cli(TEXT, "--dtype", "bfloat16")
    assert code == 0
    assert "weights in bfloat16" in err
    assert cli(TEXT, "--dtype", "auto")[2] == ""


def test_tokens_need_no_torch() -> None:
    program = (
        "import sys\nfrom gptcli.cli.main import main\n"
        "try:\n    main(['inspect', 'tokens', 'Once upon', '-m', 'tiny-tales'])\n"
        "except SystemExit as leaving:\n"
        "    print(leaving.code, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        check=True,
    )
    assert done.stdout.decode().splitlines()[-1] == "0 False False"


def test_a_cold_process_has_gradients() -> None:
    done = run(REAL, "inspect", "attribution", "Once upon a", *TALES)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "what speaks for ␣time" in done.stdout.decode()


# Drawings


@pytest.mark.parametrize("columns", [1, 10, 39, 80, 500, None])
@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("styled", [False, True])
def test_any_width_can_be_drawn_on(
    drawings: dict[str, Callable[[Canvas], list]], name: str, columns: int | None, styled: bool
) -> None:
    canvas = Canvas(columns, styled)
    lines = cropped(drawings[name](canvas), canvas)
    text = render.painted(lines) if styled else plain(lines)
    shown = re.sub("\x1b\\[[0-9;]*m", "", text)
    assert shown.strip()
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066-\u2069]", shown)
    if name not in ("text", "probability"):  # these hold the text's own line breaks
        assert max(map(width, shown.split("\n"))) <= (columns or 10**9)


def test_a_coloured_text_is_the_text(drawings: dict[str, Callable[[Canvas], list]]) -> None:
    flow = "".join(text for text, _ in drawings["text"](COLOURS)[0])
    assert flow.startswith(r"Once ^[]0;owned^G^[[2J \u202e[red]king[/red] 👩‍🚀 שלום^M↵")


def test_brackets_are_no_markup() -> None:
    assert "[red]x[/red] [/oops]" in render.painted([[("[red]x[/red] [/oops]", "")]])


@pytest.mark.parametrize("columns", [40, 80, 120, None])
def test_a_map_shows_every_weight_at_any_width(
    drawings: dict[str, Callable[[Canvas], list]], columns: int | None
) -> None:
    lines = plain(drawings["attention"](Canvas(columns, styled=False))).split("weights ")[0]
    count = len(tokens_of(HOSTILE)) + 1
    cell = 2 if "██" in lines else 1
    rows = re.findall(r" ([·░▒▓█]+)$", lines, re.MULTILINE)
    assert sum(map(len, rows)) // cell == count * (count + 1) // 2


@pytest.mark.parametrize("count", [5, 12, 40, 130])
@pytest.mark.parametrize("cell", [1, 2])
def test_the_numbers_of_columns_stay_apart_and_in_place(count: int, cell: int) -> None:
    line = heatmaps.column_numbers(range(-1, count), cell)
    found = {int(one[0]): one.end() for one in re.finditer(r"\d+", line)}
    assert 0 in found
    assert len(found) >= (count - 1) // 10 + 1
    assert all(end == (number + 2) * cell for number, end in found.items())


def test_a_map_tells_what_its_signs_mean(cli: Cli) -> None:
    legend = cli("attention", TEXT)[1].splitlines()[-2]
    assert legend == "weights  · below 0.06  ░ to 0.25  ▒ to 0.5  ▓ to 0.75  █ above"


@pytest.mark.parametrize(
    ("share", "columns", "drawn"),
    [(0, 4, ""), (1, 4, "████"), (0.5, 4, "██"), (0.53, 4, "██▏"), (2, 1, "█"), (-1, 1, "")],
)
def test_a_bar_is_as_long_as_its_share(share: float, columns: int, drawn: str) -> None:
    assert bar(share, columns) == drawn


@pytest.mark.parametrize(
    ("share", "sign"), [(0, "·"), (0.06, "·"), (0.1, "░"), (0.3, "▒"), (0.6, "▓"), (1, "█")]
)
def test_shades_rise_with_the_number(share: float, sign: str) -> None:
    assert shade(share) == sign


# On a terminal


def test_a_hostile_text_is_coloured_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(HOSTILE)
    terminal = Terminal(REAL, "inspect", "-f", str(tmp_path / "p.txt"), *TALES)
    assert terminal.finish() == 0
    screen = pyte.Screen(80, 24)
    pyte.ByteStream(screen).feed(terminal.output)
    assert screen.title == ""
    assert any(
        line.startswith(r"Once ^[]0;owned^G^[[2J \u202e[red]king") for line in screen.display
    )
    assert screen.buffer[0][0].bg != "default"
    left = re.sub(rb"\x1b\[\??[\d;]*[hlKAm]", b"", terminal.output)
    assert not re.findall(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]", left)


@pytest.mark.parametrize("variables", [{"NO_COLOR": 1}, {"TERM": "dumb"}])
def test_plain_terminals_get_the_table_without_colours(variables: dict[str, object]) -> None:
    terminal = Terminal(REAL, "inspect", TEXT, "-q", *TALES, **variables)
    assert terminal.finish() == 0
    assert b"\x1b" not in terminal.output
    assert b"likeliest" in terminal.output


def test_a_picture_without_letters_says_so(cli: Cli, tmp_path: Path) -> None:
    _, _, err = cli("next", "漢", "--top", "3", "--png", str(tmp_path / "a.png"))
    assert "code points" not in err
    _, _, err = cli("漢", "--png", str(tmp_path / "b.png"), "--svg", str(tmp_path / "b.svg"))
    assert err.count("the PNG has code points in place of letters beyond Latin") == 1
    assert "漢·1/3" in (tmp_path / "b.svg").read_text(encoding="utf-8")
