"""The readers of a model's files, and of Parquet, each with files that are nearly good."""

from __future__ import annotations

import datetime
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.batch.output import records
from gptcli.chat_templates import Turn, choose
from gptcli.checkpoints import int8_store
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.resolve import Checkpoint, is_complete
from gptcli.checkpoints.safetensors_headers import read_header
from gptcli.checkpoints.sources import find_source
from gptcli.checkpoints.tokenization.loading import check_vocabulary, load_tokenizer, notices_of
from gptcli.models import facts
from gptcli.models.card import read_card
from gptcli.models.entries import nature
from gptcli.models.verification import _listing
from gptcli.options import Sampling
from support import fuzzed_formats, fuzzed_numbers, fuzzed_training, piece_models
from support.fuzzed_readers import Reader, drained
from support.fuzzing import (
    ODD_TEXTS,
    TEXTS,
    VALUES,
    Raw,
    Times,
    as_json,
    files,
    json_files,
)

CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 1,
    "n_embd": 4,
    "n_head": 2,
    "n_positions": 8,
    "vocab_size": 16,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "bos_token_id": 5,
    "eos_token_id": [5, 6],
}
OTHER = {"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 2, "vocab_size": 16}
TENSORS = {"wte.weight": [16, 4], "wpe.weight": [8, 4], "ln_f.weight": [4], "ln_f.bias": [4]}
for _name, _shape in {
    "ln_1": [4],
    "attn.c_attn": [4, 12],
    "attn.c_proj": [4, 4],
    "ln_2": [4],
    "mlp.c_fc": [4, 16],
    "mlp.c_proj": [16, 4],
}.items():
    TENSORS[f"h.0.{_name}.weight"] = _shape
    TENSORS[f"h.0.{_name}.bias"] = _shape[-1:]


def _header() -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in TENSORS.items():
        begin = end
        end += 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[f"transformer.{name}"] = {
            "dtype": "F16",
            "shape": shape,
            "data_offsets": [begin, end],
        }
    return header


HEADER = _header()
DATA_BYTES = max(entry["data_offsets"][1] for name, entry in HEADER.items() if name[0] != "_")
INDEX = {
    "metadata": {"total_size": 9},
    "weight_map": {"a": "one.safetensors", "b": "two.safetensors"},
}
ONE = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
SHARDS = st.sampled_from(
    [
        "../x.safetensors",
        Times("x", 300, "{}.safetensors"),
        "�.safetensors",
        "a\x00.safetensors",
        "one.safetensors",
        "no.safetensors",
        ".safetensors",
        "x.bin",
        "\n.safetensors",
        "\u202e.safetensors",
    ]
).map(str)


def weights(header: bytes, length: int | None = None, data: int = DATA_BYTES) -> bytes:
    """A safetensors file of this header, whose length it tells, or another one."""
    told = len(header) if length is None else length
    return (told % 2**64).to_bytes(8, "little") + header + bytes(data)


def model(folder: Path, **changes: bytes | None) -> None:
    """A whole model there; `config_json=...` writes another config.json, None leaves it out."""
    for file in folder.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    good: dict[str, bytes | None] = {
        "config.json": as_json(CONFIG).encode(),
        "model.safetensors": weights(as_json(HEADER).encode()),
        "tokenizer.json": as_json(tokenizer_object()).encode(),
        **changes,
    }
    for name, data in good.items():
        if data is not None:
            (folder / name).write_bytes(data)


@cache
def tokenizer_object() -> dict[str, Any]:
    """A byte-level BPE of a few tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120a": 4, "<|endoftext|>": 5}
    raw = Tokenizer(models.BPE(vocab, [("a", "b"), ("\u0120", "a")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|endoftext|>"])
    found: dict[str, Any] = json.loads(raw.to_str())
    return found


TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "GPT2Tokenizer",
    "bos_token": "<|endoftext|>",
    "eos_token": {"content": "<|endoftext|>", "special": True},
    "add_bos_token": True,
    "add_prefix_space": False,
    "added_tokens_decoder": {
        "5": {"content": "<|endoftext|>", "special": True},
        "7": {"content": "x"},
    },
    "additional_special_tokens": ["<a>"],
    "extra_special_tokens": {"image": "<b>"},
    "model_max_length": Raw("1000000000000000019884624838656"),
    "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
}
VOCAB = {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120a": 4, "<|endoftext|>": 5}
MERGES = st.one_of(
    st.just("#version: 0.2\na b\n\u0120 a\n"),
    st.lists(
        st.one_of(st.sampled_from(["a b", "\u0120 a", "", "a", "a b c", "b b", " ", "a  b"]), TEXTS)
    ).map("\n".join),
)


def read_model(folder: Path, case: tuple[bytes, bytes, bytes]) -> None:
    """A folder before its tensors are read, and what `gptcli models` says of it."""
    config, generation, header = case
    model(
        folder,
        **{"config.json": config, "generation_config.json": generation},
        **{"model.safetensors": weights(header)},
    )
    nature(folder)
    about = facts.about(Checkpoint(name="x", folder=folder, revision=None, source="path"))
    json.dumps(about.to_dict(), allow_nan=False)
    inspect(folder)


def read_weights(folder: Path, data: bytes) -> None:
    """The header of a file of weights, and of one of the cache."""
    path = folder / "model.safetensors"
    path.write_bytes(data)
    int8_store._entry(path).to_dict()
    read_header(path)


def read_shards(folder: Path, case: tuple[bytes, bytes]) -> None:
    """An index and its shards."""
    index, header = case
    shard = weights(header, data=4)
    model(
        folder,
        **{"model.safetensors": None, "model.safetensors.index.json": index},
        **{"one.safetensors": shard, "two.safetensors": shard.replace(b'"a"', b'"b"')},
    )
    is_complete(folder)
    inspect(folder)


def read_pickles(folder: Path, index: bytes) -> None:
    """An index of pickled weights."""
    model(folder, **{"model.safetensors": None, "pytorch_model.bin.index.json": index})
    (folder / "one.bin").write_bytes(b"PK")
    find_source(folder)


def read_tokenizer(folder: Path, changes: dict[str, bytes]) -> None:
    """A tokenizer from its files, tried on a text."""
    old = {} if "tokenizer.json" in changes else {"tokenizer.json": None}
    model(folder, **{**old, **changes})
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, 16)
    notices_of(tokenizer)
    tokenizer.decode(tokenizer.encode("a b ab \u00e9"))
    [tokenizer.token_text(id) for id in range(min(tokenizer.size, 8))]
    [tokenizer.token_bytes(id) for id in range(min(tokenizer.size, 8))]


def read_pieces(folder: Path, data: bytes) -> None:
    """A sentencepiece model, tried on a text."""
    model(folder, **{"tokenizer.json": None, "spiece.model": data})
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, 16)
    ids, _ = tokenizer.encode_places("a b ab \u00e9 </s>")
    tokenizer.decode(ids)
    [tokenizer.token_text(id) for id in range(min(tokenizer.size, 8))]


def read_template(folder: Path, changes: dict[str, bytes]) -> None:
    """A chat template, and a prompt of it."""
    model(folder, **changes)
    template = choose("auto", folder, "x")
    turns = [Turn("user", "Hi"), Turn("assistant", "Hello.", " Hello."), Turn("user", "Bye")]
    template.prompt("Talk.", turns).encode()
    template.prompt(None, turns).encode()


def read_notes(folder: Path, data: bytes) -> None:
    """What lies beside a model: its card and the listing of its files."""
    for name in ("README.md", "listing.json"):
        (folder / name).write_bytes(data)
    json.dumps(read_card(folder))
    _listing(folder / "listing.json")


CONFIGS = json_files(st.sampled_from([CONFIG, CONFIG, OTHER]))
GENERATION = json_files(st.just({"bos_token_id": 5, "eos_token_id": [5, 6]}))
HEADERS = json_files(st.just(HEADER))
TAMPERED = st.builds(
    weights,
    HEADERS,
    st.one_of(st.none(), st.none(), st.integers(0, 2**64 - 1), st.integers(0, 300)),
    st.sampled_from([DATA_BYTES] * 6 + [0, 1, DATA_BYTES - 1, DATA_BYTES + 1]),
)
INDEXES = json_files(st.just(INDEX), st.one_of(SHARDS, SHARDS, VALUES))
PICKLED = json_files(
    st.just({"weight_map": {"a": "one.bin", "b": "one.bin"}}),
    st.one_of(SHARDS.map(lambda name: name.replace("safetensors", "bin")), VALUES),
)
TOKENIZERS = st.one_of(
    st.fixed_dictionaries(
        {"tokenizer.json": json_files(st.builds(tokenizer_object))},
        optional={"tokenizer_config.json": json_files(st.just(TOKENIZER_CONFIG))},
    ),
    st.fixed_dictionaries(
        {"vocab.json": json_files(st.just(VOCAB)), "merges.txt": files(MERGES)},
        optional={
            "tokenizer_config.json": json_files(st.just(TOKENIZER_CONFIG)),
            "special_tokens_map.json": json_files(
                st.just({"bos_token": "a", "unk_token": {"content": "b"}})
            ),
            "added_tokens.json": json_files(st.just({"<a>": 6, "<b>": 9})),
        },
    ),
)
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 35, 44, 2**29, 2**63])
FIELDS = st.builds(
    piece_models.field,
    NUMBERS,
    st.one_of(
        st.sampled_from([0, 1, 2, 3, 4, 5, 6, 2**31, 2**64 - 1, 2**70]),
        st.sampled_from([0.0, -1.5, 3e38, float("nan"), float("-inf")]),
        TEXTS,
        st.binary(max_size=40),
    ),
)


@st.composite
def piece_files(draw: st.DrawFn) -> bytes:
    """A sentencepiece model whose parts are changed, and whose bytes may be."""
    pieces = [piece.field() for piece in draw(st.sampled_from([piece_models.PIECES]))]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(pieces) - 1))
        inner = st.lists(FIELDS, max_size=3).map(b"".join)
        change = draw(st.one_of(st.just(b""), inner.map(lambda one: piece_models.field(1, one))))
        pieces[at : at + draw(st.integers(0, 1))] = [change]
    settings = [b"".join(draw(st.lists(FIELDS, max_size=2))) for _ in range(3)]
    whole = [piece_models.field(2 + number, one) for number, one in enumerate(settings)]
    data = b"".join([*pieces, *draw(st.sampled_from([[], [], whole[:2], whole]))])
    match draw(st.sampled_from([""] * 4 + ["cut", "put", "put", "double"])):
        case "cut":
            return data[: draw(st.integers(0, len(data)))]
        case "put":
            at = draw(st.integers(0, len(data)))
            return data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at + 1 :]
        case "double":
            return data + data
    return data


PIECES = st.one_of(
    st.sampled_from(
        [
            "{{ messages[0].content }}",
            "{% for m in messages %}",
            "{% endfor %}",
            "{{ m.role }}",
            "{{",
            "{% if m %}",
            "{% endif %}",
            "{% set x = messages * 9 %}",
            "{{ x }}",
            "{# a #}",
            "{%- else -%}",
            "{{ 10 ** 5000 }}",
            Times("9", 5000, "{{ {} }}"),
            "{{ '%s' % m }}",
            "{{ bos_token | safe }}",
            "{{ range(10**9) | list }}",
            "{{ 'a' * 10**9 }}",
            "{{ m.__class__ }}",
            "{% generation %}",
            "{{ raise_exception('no') }}",
            "{% macro a(x) %}",
            "{% endmacro %}",
            "{{ a(a) }}",
            "{% break %}",
            "{{ messages | tojson }}",
            "{{ strftime_now('%Y') }}",
            "{{ '\\ud800' }}",
            "\ufeff",
            "{{ 1/0 }}",
            Times("(", 300, "{{ {}1 }}"),
            Times("-", 3000, "{{ {}1 }}"),
            Times("{% if a %}", 150),
            Times("[", 90, "{{ {} }}"),
            "{% endgeneration %}",
            "{{ [1,2]|map('abs')|list }}",
            "{{ loop }}",
            "{{ 'a'.join(1) }}",
            "{{ messages|sort }}",
            "{{ 'x'|int(base=99) }}",
            "{{ namespace(a=1) }}",
            Times("a.", 900, "{{ {}b }}"),
            Times("1+", 900, "{{ {}1 }}"),
            "{{ 1e400 | int }}",
            "{{ ('9' * 5000) | int }}",
            "{{ 1.0 | round(9**99) }}",
            "{{ strftime_now('%' * 99) }}",
        ]
    ).map(str),
    TEXTS,
)
TEMPLATES = st.lists(PIECES, max_size=7).map("".join)
CHATS = st.one_of(
    st.fixed_dictionaries({"chat_template.jinja": files(TEMPLATES)}),
    st.fixed_dictionaries(
        {
            "tokenizer_config.json": json_files(
                TEMPLATES.map(lambda text: {**TOKENIZER_CONFIG, "chat_template": text})
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "chat_template.json": json_files(
                TEMPLATES.map(
                    lambda text: {"chat_template": [{"name": "default", "template": text}]}
                )
            )
        },
        optional={
            "config.json": CONFIGS,
            "tokenizer_config.json": json_files(st.just(TOKENIZER_CONFIG)),
        },
    ),
)
LISTING = {
    "format_version": 1,
    "files": {"a": {"size": 3, "blob_id": "0" * 40, "lfs_sha256": "0" * 64}},
}
NOTES = st.one_of(
    json_files(st.just(LISTING)),
    files(
        st.lists(
            st.one_of(
                TEXTS,
                st.sampled_from(
                    ["license: mit", "tags: [a, b]", "- a", "tags:", "datasets:", "x: {}"]
                ),
            )
        ).map(lambda lines: "\n".join(["---", *lines, "---", "# A"]))
    ),
)


# Parquet


def _leaves() -> st.SearchStrategy[tuple[pyarrow.DataType, st.SearchStrategy[Any]]]:
    times = st.datetimes() | st.sampled_from([datetime.datetime.max, datetime.datetime.min])
    big = st.integers(-(2**63), 2**63 - 1)
    decimals = st.decimals(-999, 999, places=2)
    kinds: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (pyarrow.string(), TEXTS.filter(_is_text)),
        (pyarrow.large_string(), st.text(max_size=4)),
        (pyarrow.binary(), st.binary(max_size=4)),
        (pyarrow.binary(3), st.binary(min_size=3, max_size=3)),
        (pyarrow.int8(), st.integers(-128, 127)),
        (pyarrow.int64(), big),
        (pyarrow.uint64(), st.integers(0, 2**64 - 1)),
        (pyarrow.bool_(), st.booleans()),
        (pyarrow.float64(), st.floats()),
        (pyarrow.float32(), st.floats(width=32)),
        (pyarrow.date32(), st.integers(-(2**31), 2**31 - 1)),
        (pyarrow.date64(), big.map(lambda n: n // 86400000 * 86400000)),
        (pyarrow.time32("ms"), st.integers(-10, 2**31 - 1)),
        (pyarrow.time64("ns"), big),
        (pyarrow.timestamp("us"), times),
        (pyarrow.timestamp("us"), big),
        (pyarrow.timestamp("ns"), big),
        (pyarrow.timestamp("s"), big),
        (pyarrow.timestamp("ms", "Europe/Berlin"), big),
        (pyarrow.timestamp("us", "+05:30"), big),
        (pyarrow.timestamp("us", "No/Where"), big),
        (pyarrow.duration("s"), big),
        (pyarrow.duration("ns"), big),
        (pyarrow.decimal128(9, 2), decimals),
        (pyarrow.decimal256(50, 2), decimals),
        (pyarrow.null(), st.none()),
        (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), st.text(max_size=3)),
        (pyarrow.string_view(), st.text(max_size=4)),
        (pyarrow.uuid(), st.binary(min_size=16, max_size=16)),
        (pyarrow.json_(), st.sampled_from(["{}", "[1", "9"])),
        (pyarrow.float16(), st.floats(width=16)),
    ]
    return st.sampled_from(kinds)


def _is_text(text: str) -> bool:
    return text.isprintable() and len(text) < 1000


def _wrapped(inner: Any) -> Any:
    """Lists, structs and maps of a kind of values; a map may have any of them as keys."""

    def made(kind: Any, other: Any, shape: str) -> Any:
        (type_, values), (key, keys) = kind, other
        match shape:
            case "list":
                return pyarrow.list_(type_), st.lists(values | st.none(), max_size=3)
            case "struct":
                parts = {"a": values | st.none(), "": keys | st.none()}
                return pyarrow.struct([("a", type_), ("", key)]), st.fixed_dictionaries(parts)
            case _:
                pairs = st.lists(st.tuples(keys, values | st.none()), max_size=3)
                key = pyarrow.string() if key == pyarrow.null() else key
                return pyarrow.map_(key, type_), pairs

    return st.builds(made, inner, inner, st.sampled_from(["list", "struct", "map", "map"]))


KINDS = st.recursive(_leaves(), _wrapped, max_leaves=4)
NAMES = st.one_of(
    st.sampled_from(["id", "text", "seed", "stop", "temperature", "logit_bias"]),
    st.sampled_from(["sampling", "a.b", "a", "note", "", "prompt.x", "\u00e9", "top_k", "error"]),
    ODD_TEXTS.filter(_is_text),
)


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    """A file of a few columns of any type, now and then cut or spoilt."""
    size = draw(st.integers(0, 3))
    names, columns = [], []
    for place in range(draw(st.integers(1, 4))):
        text = place == 0 and draw(st.sampled_from([True, True, False]))
        kind, values = (pyarrow.string(), st.text(max_size=5)) if text else draw(KINDS)
        cells = draw(st.lists(values | st.none(), min_size=size, max_size=size))
        try:
            column = _column(kind, cells)
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError):
            kind, column = pyarrow.null(), pyarrow.nulls(size)
        name = "prompt" if text else draw(NAMES)
        names.append(f"{name}{place}" if name in names and draw(st.booleans()) else name)
        columns.append(column)
    sink = pyarrow.BufferOutputStream()
    try:
        table = pyarrow.Table.from_arrays(columns, names=names)
        pyarrow.parquet.write_table(
            table, sink, compression=draw(st.sampled_from(["none", "snappy"]))
        )
    except (pyarrow.ArrowException, ValueError):
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a"]}), sink)
    data = sink.getvalue().to_pybytes()
    if draw(st.sampled_from([False] * 8 + [True])):
        at = draw(st.integers(0, len(data) - 1))
        return data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)) :]
    return data


def _column(kind: Any, cells: list[Any]) -> Any:
    if isinstance(kind, pyarrow.BaseExtensionType):
        return pyarrow.ExtensionArray.from_storage(kind, pyarrow.array(cells, kind.storage_type))
    if any(type(cell) is int for cell in cells) and (
        pyarrow.types.is_temporal(kind) and not pyarrow.types.is_duration(kind)
    ):
        width = pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64()
        return pyarrow.array(cells, width).view(kind)
    return pyarrow.array(cells, kind)


PARQUET_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "column": st.one_of(st.sampled_from(["prompt", "1", "a.b"]), NAMES),
        "id_column": st.one_of(st.sampled_from(["id", "2"]), NAMES),
        "row_settings": st.booleans(),
        "allow_empty": st.booleans(),
    },
)


def read_parquet(folder: Path, case: tuple[bytes, dict[str, Any]]) -> None:
    """The rows of a Parquet file, each as a line of the output."""
    data, options = case
    path = folder / "in.parquet"
    path.write_bytes(data)
    for row in drained(rows([str(path)], BatchInput(**options), None)):
        records.encode(row.key, {"id": row.id, "prompt": row.text, **row.carried})
        Sampling(**row.overrides)


READERS = [
    Reader("Parquet", st.tuples(parquet_files(), PARQUET_OPTIONS), read_parquet),
    Reader("models", st.tuples(CONFIGS, GENERATION, HEADERS), read_model),
    Reader("weights", TAMPERED, read_weights),
    Reader("shards", st.tuples(INDEXES, json_files(st.just(ONE))), read_shards),
    Reader("indexes of pickles", PICKLED, read_pickles),
    Reader("tokenizers", TOKENIZERS, read_tokenizer),
    Reader("sentencepiece models", piece_files(), read_pieces),
    Reader("chat templates", CHATS, read_template),
    Reader("cards and listings", NOTES, read_notes),
    *fuzzed_formats.READERS,
    *fuzzed_training.READERS,
    *fuzzed_numbers.READERS,
]
