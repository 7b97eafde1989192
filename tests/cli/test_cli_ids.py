"""Token ids in and out, and models whose tokens are no text; special tokens that end one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.engines import built_in, by_torch, through_transformers
from support.small_tokenizers import KINDS

import gptcli
from gptcli.errors import BadInput, BadModel
from gptcli.options import Sampling
from gptcli.protocol import Completion, GenerateRequest

Cli = Callable[..., tuple[int, str, str]]
IDS = (40, 41, 42)
GREEDY = ("--greedy", "--max-new-tokens", "5")


@pytest.fixture(scope="module")
def silent(make_tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a tokenizer."""
    folder = tmp_path_factory.mktemp("silent") / "music"
    shutil.copytree(make_tiny(eos_token_id=0, bos_token_id=0), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def chinese(make_tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens are those of BERT."""
    folder = tmp_path_factory.mktemp("chinese") / "zh"
    raw = KINDS["wordpiece"]()
    shutil.copytree(make_tiny(vocab_size=raw.get_vocab_size()), folder)
    raw.save(str(folder / "tokenizer.json"))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


def expected(folder: Path, ids: tuple[int, ...] = IDS, count: int = 5) -> list[int]:
    """What transformers writes."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=count, pad_token_id=0)
    return out[0, len(ids) :].tolist()


def test_ids_in_and_out_need_no_tokenizer(main_in: Cli, silent: Path) -> None:
    new = expected(silent)
    for prompt in ("40 41 42", "[40, 41, 42]", "40,41\n42"):
        found = main_in("generate", "-m", str(silent), "--ids", prompt, "--format", "ids", *GREEDY)
        assert found[:2] == (0, " ".join(map(str, new)) + "\n")
    found = main_in(
        *("generate", "-m", str(silent), "--ids", "--format", "ids", "--echo", *GREEDY),
        stdin=b"40 41 42\n",
    )
    assert found[1].split() == [*map(str, IDS), *map(str, new)]


@pytest.mark.parametrize("opened", [built_in, by_torch, through_transformers])
def test_every_engine_reads_ids(tiny: Path, opened) -> None:
    asked = GenerateRequest(
        id="0", prompt=IDS, sampling=Sampling(greedy=True, max_new_tokens=5, logprobs=1)
    )
    *chunks, done = opened(tiny).run([asked])
    assert isinstance(done, Completion)
    assert list(done.tokens) == expected(tiny)
    assert done.prompt == IDS
    assert done.usage.prompt_tokens == 3
    assert "".join(chunk.text for chunk in chunks) == done.text


def test_several_sequences_are_a_line_each(main_in: Cli, silent: Path) -> None:
    args = ("generate", "-m", str(silent), "--ids", "40 41 42", "--seed", "3", "-n", "3")
    code, out, _ = main_in(*args, "--max-new-tokens", "4", "--format", "ids")
    lines = out.splitlines()
    assert (code, [len(line.split()) for line in lines]) == (0, [4, 4, 4])
    rows = json.loads(main_in(*args, "--max-new-tokens", "4", "--json")[1])
    assert [" ".join(map(str, row["token_ids"])) for row in rows] == lines
    assert [row["prompt"] for row in rows] == [list(IDS)] * 3


def test_a_model_without_text_says_how_it_is_asked(main_in: Cli, silent: Path) -> None:
    for args in (("generate", "a"), ("score", "a"), ("generate", "--ids", "40")):
        code, out, err = main_in(*args, "-m", str(silent))
        assert (code, out) == (65, "")
        assert "no tokenizer" in err
        assert "--ids --format ids" in err


def test_what_needs_a_text_is_refused_there(main_in: Cli, silent: Path) -> None:
    asked = ("generate", "-m", str(silent), "--ids", "40", "--format", "ids", *GREEDY)
    assert main_in(*asked, "--stop", "a")[0] == 65
    assert main_in(*asked, "--bad-words", "a")[0] == 65
    first = expected(silent, (40,))[0]
    assert main_in(*asked, "--stop-token-id", str(first))[1] == f"{first}\n"
    assert main_in(*asked, "--num-beams", "2")[0] == 0


@pytest.mark.parametrize(
    ("prompt", "code", "why"),
    [
        ("40 x", 65, "'x' is no token id"),
        ("[40, 1.5]", 65, "'1.5' is no token id"),
        ("[40", 65, "no JSON list"),
        ("512", 65, "those of"),
        ("-1", 2, ""),
        ("99999999999999999999", 65, "no token id"),
        ("", 2, "empty prompt"),
        ("[]", 2, "names no token that begins a text"),
    ],
)
def test_what_is_no_prompt_of_ids_is_refused(
    main_in: Cli, make_tiny, prompt: str, code: int, why: str
) -> None:
    folder = make_tiny(bos_token_id=None, eos_token_id=None)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    found = main_in("generate", "-m", str(folder), "--ids", prompt, "--format", "ids")
    assert found[0] == code
    assert why in found[2]


def test_ids_are_written_for_a_text_too(main_in: Cli, tales: Path) -> None:
    args = ("generate", "-m", "tiny-tales", "--seed", "1", "--max-new-tokens", "4", "The fox")
    code, out, _ = main_in(*args, "--format", "ids", "--echo")
    ids = list(map(int, out.split()))
    text = main_in(*args)[1]
    model = gptcli.load("tiny-tales")
    assert (code, model.decode(ids) + "\n") == (0, text)


def test_ids_go_on_beyond_the_context(main_in: Cli, tiny: Path) -> None:
    asked = ("generate", "-m", str(tiny), "--ids", "40 41", "--greedy", "--max-new-tokens", "150")
    code, out, err = main_in(*asked, "--format", "ids", "--min-new-tokens", "150")
    assert (code, len(out.split())) == (0, 150)
    assert "longer than the 64 tokens" in err


def test_a_record_of_ids_runs_again(main_in: Cli, tiny: Path, tmp_path: Path) -> None:
    for kept in ("text", "hash"):
        record = str(tmp_path / f"{kept}.jsonl")
        asked = ("generate", "-m", str(tiny), "--ids", "40 41", "--format", "ids", "--record")
        assert main_in(*asked, record, "--record-prompt", kept, *GREEDY)[0] == 0
        given = ("40 41",) if kept == "hash" else ()
        code, out, _ = main_in("replay", record, *given)
        assert (code, "identical" in out) == (0, True)


def test_rows_of_a_batch_are_ids_or_texts(main_in: Cli, tiny: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    line = {"custom_id": "c", "method": "POST", "url": "/v1/completions"}
    written = [
        {"prompt": list(IDS), "id": "a"},
        {"prompt": "a text"},
        {"prompt": [512]},
        {"prompt": [40, "x"]},
        {"prompt": []},
        {**line, "body": {"prompt": list(IDS)}},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in written))
    code, out, _ = main_in("batch", str(rows), "-m", str(tiny), "-o", "-", *GREEDY)
    found = [json.loads(line) for line in out.splitlines()]
    new = expected(tiny)
    assert code == 3
    assert [row.get("token_ids") for row in found] == [new, None, [], None, None, new]
    errors = [row["error"] and row["error"]["message"] for row in found]
    assert errors[0] is errors[1] is errors[5] is None
    assert ["no token id" in str(errors[2]), "'x'" in str(errors[3])] == [True, True]
    assert "empty" in str(errors[4])
    task = main_in("batch", str(rows), "-m", str(tiny), "-o", "-", "--task", "answer")
    assert "a task takes a text" in task[1]


def test_python_takes_ids(tiny: Path, silent: Path) -> None:
    model = gptcli.load(tiny)
    done = model.generate(list(IDS), greedy=True, max_new_tokens=5)
    assert list(done.tokens) == expected(tiny)
    assert "".join(model.stream(IDS, greedy=True, max_new_tokens=5)) == done.text
    both = model.generate_many([IDS, "a"], greedy=True, max_new_tokens=5)
    assert both[0].tokens == done.tokens
    with pytest.raises(BadInput, match="not all in the list are token ids"):
        model.generate([1, None])  # type: ignore[list-item]
    other = gptcli.load(silent)
    assert list(other.generate([40], greedy=True, max_new_tokens=5).tokens) == expected(
        silent, (40,)
    )
    with pytest.raises(BadModel, match="no tokenizer"):
        other.generate("a")
    with pytest.raises(BadModel, match="no tokenizer"):
        other.encode("a")


# Tokens that end a text.


def test_a_token_ends_the_text_by_its_id(
    main_in: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = expected(tiny)
    asked = ("generate", "-m", str(tiny), "--ids", "40 41 42", "--json", *GREEDY)
    stop = new[2]
    found = json.loads(main_in(*asked, "--stop-token-id", "3", "--stop-token-id", str(stop))[1])
    assert (found["token_ids"], found["finish_reason"]) == (new[: new.index(stop) + 1], "stop")
    monkeypatch.setenv("GPTCLI_STOP_TOKEN_ID", str(stop))
    assert json.loads(main_in(*asked)[1])["token_ids"] == found["token_ids"]
    code, _, err = main_in(*asked, "--stop-token-id", "512")
    assert (code, "is not a token of this model" in err) == (2, True)
    assert main_in(*asked, "--stop-token-id", "x")[0] == 2


def test_a_file_names_the_tokens_that_end_a_text(main_in: Cli, tiny: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    new = expected(tiny)
    asked = ("generate", "-m", str(tiny), "--ids", "40 41 42", "--format", "ids", *GREEDY)
    config.write_text(f"stop_token_id = [{new[0]}]\n")
    assert main_in(*asked, "--config", str(config))[1] == f"{new[0]}\n"
    for wrong in ('["x"]', "[true]", "[-1]", "5"):
        config.write_text(f"stop_token_id = {wrong}\n")
        assert main_in(*asked, "--config", str(config))[0] == 65


def test_rows_name_the_tokens_that_end_them(main_in: Cli, tiny: Path, tmp_path: Path) -> None:
    new, rows = expected(tiny), tmp_path / "rows.jsonl"
    written = [
        {"prompt": list(IDS), "stop_token_id": [new[0]]},
        {"prompt": list(IDS), "stop_token_ids": new[0]},
        {"prompt": list(IDS), "stop_token_id": [1.5]},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in written))
    out = main_in("batch", str(rows), "-m", str(tiny), "-o", "-", *GREEDY)[1]
    found = [json.loads(line) for line in out.splitlines()]
    assert [row.get("token_ids") for row in found[:2]] == [new[:1]] * 2
    assert "no list of token ids" in found[2]["error"]["message"]


# Chinese.


def test_chinese_is_written_without_spaces_and_ends_at_several_characters(
    main_in: Cli, chinese: Path
) -> None:
    import tokenizers

    raw = tokenizers.Tokenizer.from_file(str(chinese / "tokenizer.json"))
    han = ["--logit-bias", f"{raw.token_to_id('天')}=100", "--no-repeat-ngram-size", "2"]
    han += ["--logit-bias", f"{raw.token_to_id('气')}=100"]
    asked = ("generate", "-m", str(chinese), "今 QQ天", "--greedy", "--max-new-tokens", "4", *han)
    code, out, err = main_in(*asked)
    prompt, text = "今 QQ天", out.removeprefix("今 QQ天").removesuffix("\n")
    assert (code, out.startswith(prompt), " " in text) == (0, True, False)
    assert set(text) <= {"天", "气"}
    assert err == "gptcli: note: 2 characters of the prompt are not in the vocabulary: QQ\n"
    stopped = main_in(*asked, "--no-echo", "--stop", text[1:3])
    assert stopped[1] == text.partition(text[1:3])[0] + "\n"
    ended = main_in(*asked, "--logit-bias", "[SEP]=100", "--stop", "[SEP]", "--json")
    found = json.loads(ended[1])
    assert found["finish_reason"] == "stop"


def test_nothing_is_said_of_what_does_a_chinese_model_no_harm(
    main_in: Cli, chinese: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "zh"  # with GPT-2's end in its config.json, as transformers writes it
    shutil.copytree(chinese, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"bos_token_id": 50256, "eos_token_id": 50256}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink(missing_ok=True)
    asked = ("-m", str(folder), "天 ")  # WordPiece knows no spaces
    assert main_in("generate", *asked, *GREEDY)[2] == ""
    assert main_in("inspect", "next", *asked)[2] == ""
    assert "50256" in main_in("models", "info", str(folder))[2]


def test_an_unknown_token_that_was_written_is_said(main_in: Cli, chinese: Path) -> None:
    asked = ("generate", "-m", str(chinese), "天", "--greedy", "--max-new-tokens", "2")
    code, out, err = main_in(*asked, "--logit-bias", "[UNK]=100")
    assert (code, out) == (0, "天\n")
    assert "[UNK]" in err


def test_every_command_counts_unknown_characters_once(
    main_in: Cli, chinese: Path, tmp_path: Path
) -> None:
    model = ("-m", str(chinese))
    few = ("--greedy", "--max-new-tokens", "2")
    code, out, err = main_in("score", *model, "天QQ", "--json")
    assert (code, json.loads(out)["unknown"]) == (0, 1)
    assert err == "gptcli: note: 2 characters of the text are not in the vocabulary: QQ\n"
    for view in ("text", "next", "tokens"):
        assert main_in("inspect", view, *model, "天QQ")[2] == err
    rows = tmp_path / "rows.txt"
    rows.write_text("天QQ\n天Z\n天\n")
    err = main_in("batch", str(rows), *model, "-o", "-", *few)[2]
    assert err.count("not in the vocabulary") == 1
    assert "3 characters of the prompts are not in the vocabulary: QQ, Z" in err
    err = main_in("chat", *model, *few, "--template", "{user}", stdin="天QQ\n天QQ\n".encode())[2]
    assert err.count(" QQ") <= 1
    err = main_in("answer", *model, "天🍣", "--max-new-tokens", "2")[2]
    assert err.count("not in the vocabulary") == 1


def test_an_empty_prompt_begins_with_the_begin_token(main_in: Cli, chinese: Path) -> None:
    asked = ("generate", "-m", str(chinese), "--allow-empty", "", "--format", "ids", "--echo")
    code, out, _ = main_in(*asked, *GREEDY)
    assert (code, list(map(int, out.split()))) == (0, [2, *expected(chinese, (2,))])
