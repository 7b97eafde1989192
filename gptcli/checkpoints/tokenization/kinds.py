"""Which kind a tokenizer is: by its class, as transformers names them, and by the files there are.

vocab.json and merges.txt are GPT-2's, GPT-1's, RoBERTa's or CLIP's, and give other ids for each; so
the class decides, which tokenizer_config.json or else config.json names. A class that cannot be
had from the files is refused by its name. tokenizer.json needs no class: it says everything itself.
Nothing is read here but those two files, and nothing heavy imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.tokenization.files import (
    BPE_SETS,
    JSON,
    OTHER_JSON,
    SENTENCEPIECE_SETS,
    SETS,
    WORDPIECES,
    Set,
    find,
    names_in,
)
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, corrupt, read_object

Builder = Literal["json", "byte_level", "word_ends", "wordpiece", "sentencepiece"]
NAMES: Mapping[Builder, str] = {
    "json": "tokenizer.json",
    "byte_level": "byte-level BPE",
    "word_ends": "BPE of characters, with ends of words",
    "wordpiece": "WordPiece",
    "sentencepiece": "sentencepiece",
}
ABSENT, UNSUPPORTED = "no tokenizer", "unsupported tokenizer"
COPY = (
    "Copy the tokenizer of the model it was trained from into the folder, or give token ids:"
    " gptcli generate --ids --format ids"
)
OTHER = "Choose another model with -m"
SAVE = (
    "Write a tokenizer.json with transformers: AutoTokenizer.from_pretrained(FOLDER)"
    ".save_pretrained(FOLDER)"
)


@dataclass(frozen=True, kw_only=True)
class TokenizerKind:
    """How tokenizer classes build theirs: from which files, with which settings of their own."""

    builder: Builder
    sets: tuple[Set, ...]
    defaults: Mapping[str, object] = field(default_factory=dict)  # of tokenizer_config.json


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A folder's tokenizer: its kind, its class ("" where none is named), and its files."""

    kind: TokenizerKind
    class_name: str
    files: tuple[Path, ...]
    explicit: bool  # a file names the class

    @property
    def file(self) -> Path:
        """The file that errors name: the first."""
        return self.files[0]


def _specials(begin: str, end: str, *others: str) -> dict[str, object]:
    unknown, pad, mask = others
    return {
        "bos_token": begin,
        "eos_token": end,
        "cls_token": begin,
        "sep_token": end,
        "unk_token": unknown,
        "pad_token": pad,
        "mask_token": mask,
    }


_ROBERTA = _specials("<s>", "</s>", "<unk>", "<pad>", "<mask>")
_BERT: dict[str, object] = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_HERBERT = {name: text for name, text in _ROBERTA.items() if name not in ("bos_token", "eos_token")}

JSON_KIND = TokenizerKind(builder="json", sets=((JSON,), (OTHER_JSON,)))
GPT2 = TokenizerKind(builder="byte_level", sets=BPE_SETS)
_AROUND = TokenizerKind(
    builder="byte_level", sets=BPE_SETS[:1], defaults=_ROBERTA | {"_around": True}
)  # puts tokens before and behind a text
BERT = TokenizerKind(builder="wordpiece", sets=((WORDPIECES,),), defaults=_BERT)
SENTENCEPIECE = TokenizerKind(builder="sentencepiece", sets=SENTENCEPIECE_SETS)


def _word_ends(**defaults: object) -> TokenizerKind:
    return TokenizerKind(builder="word_ends", sets=BPE_SETS[:1], defaults=defaults)


_DEBERTA = _specials("[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]")
CLASSES: Mapping[str, TokenizerKind] = {
    "GPT2Tokenizer": GPT2,
    "CodeGenTokenizer": GPT2,
    "GPTNeoXTokenizer": TokenizerKind(
        builder="byte_level", sets=BPE_SETS[:1], defaults={"_normalize": "NFC"}
    ),
    **dict.fromkeys(("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer"), _AROUND),
    **dict.fromkeys(("LEDTokenizer", "MvpTokenizer"), _AROUND),
    "DebertaTokenizer": TokenizerKind(
        builder="byte_level", sets=BPE_SETS[:1], defaults=_DEBERTA | {"_around": True}
    ),
    "BlenderbotTokenizer": TokenizerKind(
        builder="byte_level",
        sets=BPE_SETS[:1],
        defaults=_ROBERTA
        | {"add_prefix_space": True, "mask_token": {"content": "<mask>", "lstrip": True}},
    ),
    "OpenAIGPTTokenizer": _word_ends(unk_token="<unk>", _lower=True),
    "HerbertTokenizer": _word_ends(**_HERBERT, _around=True),
    "CLIPTokenizer": _word_ends(
        **_specials("<|startoftext|>", *["<|endoftext|>"] * 3, ""), _clip=True, _around=True
    ),
    **dict.fromkeys(
        (
            *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
            *("SqueezeBertTokenizer", "ConvBertTokenizer", "RetriBertTokenizer", "LxmertTokenizer"),
            *("LayoutLMTokenizer", "NezhaTokenizer", "RealmTokenizer"),
        ),
        BERT,
    ),
    "MPNetTokenizer": TokenizerKind(
        builder="wordpiece",
        sets=BERT.sets,
        defaults=_specials("<s>", "</s>", "[UNK]", "<pad>", "<mask>"),
    ),
    "FunnelTokenizer": TokenizerKind(
        builder="wordpiece",
        sets=BERT.sets,
        defaults=_specials("<s>", "</s>", "<unk>", "<pad>", "<mask>")
        | {"cls_token": "<cls>", "sep_token": "<sep>"},
    ),
    **dict.fromkeys(
        (
            *("T5Tokenizer", "LlamaTokenizer", "CodeLlamaTokenizer", "XLNetTokenizer"),
            *("AlbertTokenizer", "CamembertTokenizer", "XLMRobertaTokenizer", "MBartTokenizer"),
            *("MBart50Tokenizer", "BarthezTokenizer", "GPTSw3Tokenizer", "ReformerTokenizer"),
            *("BigBirdTokenizer", "PegasusTokenizer", "DebertaV2Tokenizer", "RemBertTokenizer"),
            *("XGLMTokenizer", "BertGenerationTokenizer", "FNetTokenizer", "GemmaTokenizer"),
            *("NllbTokenizer", "PLBartTokenizer", "SeamlessM4TTokenizer", "UdopTokenizer"),
            *("XLMProphetNetTokenizer", "MarianTokenizer", "M2M100Tokenizer"),
        ),
        SENTENCEPIECE,
    ),
}
"""Each class that can be had from its files, without "Fast", and how."""

_PLAIN = (JSON_KIND, GPT2, BERT, SENTENCEPIECE)  # what files are where no class is named

_JIEBA = "it cuts words with jieba first, which no file of the model holds"
REFUSED: Mapping[str, str] = {
    "BertJapaneseTokenizer": "it cuts words with MeCab or Sudachi first, which no file holds",
    "JumanppTokenizer": "it cuts words with Juman++ first, which no file of the model holds",
    "GPTNeoXJapaneseTokenizer": "it has rules for Japanese of its own, which no file holds",
    "CTRLTokenizer": "its vocabulary lacks the pieces that its merges pass through",
    "PhobertTokenizer": "it reads words that VnCoreNLP cut, from bpe.codes and vocab.txt",
    "BertweetTokenizer": "it has rules for tweets of its own, which no file holds",
    "XLMTokenizer": "it cuts words with Moses first, which no file of the model holds",
    "FlaubertTokenizer": "it cuts words with Moses first, which no file of the model holds",
    "TransfoXLTokenizer": "its vocabulary is a pickle, which can run code when it is read",
    "CpmTokenizer": _JIEBA,
    "CpmAntTokenizer": _JIEBA,
    "RoFormerTokenizer": _JIEBA,
    "ByT5Tokenizer": "its tokens are bytes, which no file lists",
    "CanineTokenizer": "its tokens are characters, which no file lists",
}
"""Classes whose ids cannot be had from the files of a model, and why."""

_BARE = re.compile("PreTrainedTokenizer|PythonBackend|TokenizersBackend|SentencePieceBackend")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,79}")
# What transformers takes where no file names a class; only what is not GPT-2's.
MODEL_CLASSES: Mapping[str, str] = {
    "openai-gpt": "OpenAIGPTTokenizer",
    "ctrl": "CTRLTokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "gpt_neox_japanese": "GPTNeoXJapaneseTokenizer",
    "roberta": "RobertaTokenizer",
    "bart": "RobertaTokenizer",
    "blenderbot": "BlenderbotTokenizer",
    "bert": "BertTokenizer",
    "electra": "BertTokenizer",
    "xlnet": "XLNetTokenizer",
    "xlm": "XLMTokenizer",
    "xglm": "XGLMTokenizer",
    "llama": "LlamaTokenizer",
    "transfo-xl": "TransfoXLTokenizer",
    "cpmant": "CpmAntTokenizer",
}


def recognise(folder: Path, named: Object, config: Object) -> Recognised:
    """The kind of a folder's tokenizer.

    named: tokenizer_config.json's content; config: config.json's. Raises BadModel for a folder
    without a tokenizer, and for a class that cannot be had from what is there.
    """
    names = names_in(folder)
    class_name, where, explicit = _class_of(folder, named, config)
    if class_name in REFUSED and JSON not in names:
        why = f"{where}: {class_name}: {REFUSED[class_name]}"
        raise BadModel(UNSUPPORTED, why, OTHER)
    for wanted, kind in _candidates(class_name):
        if found := find(names, wanted):
            return Recognised(
                kind=kind,
                class_name=class_name,
                files=tuple(folder / name for name in found),
                explicit=explicit,
            )
    raise _unfit(folder, names, class_name, where)


def _candidates(class_name: str) -> list[tuple[Set, TokenizerKind]]:
    """The sets of files that a class can use, the first that is there counts."""
    kind = CLASSES.get(class_name)
    by_files = [(wanted, one) for wanted in SETS for one in _PLAIN if wanted in one.sets]
    if not class_name:
        return by_files
    own = [(wanted, kind) for wanted in kind.sets] if kind else []
    # What a class does with files of BPE or WordPiece is its own; sentencepiece's say it.
    open_to = (JSON_KIND,) if kind else (JSON_KIND, SENTENCEPIECE)
    others = [(wanted, one) for wanted, one in by_files if one in open_to]
    return [others[0], *own, *others[1:]]


def describe(found: Recognised) -> str:
    """A tokenizer's kind for people, with its class. Raises BadModel for a corrupt file."""
    name = NAMES[found.kind.builder]
    if found.kind.builder == "json":
        model = read_object(found.file, MAX_TOKENIZER_BYTES).get("model")
        named = model.get("type") if isinstance(model, dict) else None
        name = f"{named}, as {found.file.name} says" if isinstance(named, str) else found.file.name
    return f"{name} ({found.class_name})" if found.class_name and found.explicit else name


def settings_of(found: Recognised, named: Object) -> Object:
    """What the files name, and what the class has by itself where they say nothing."""
    if found.kind.builder == "sentencepiece":
        from gptcli.checkpoints.tokenization.pieces import classes  # seldom needed

        return {**classes.defaults(found.class_name), **named}
    by_class = CLASSES.get(found.class_name) if found.explicit else None
    return {**(by_class or found.kind).defaults, **named}


def _class_of(folder: Path, named: Object, config: Object) -> tuple[str, str, bool]:
    """The tokenizer class without "Fast", the file that says so, and whether it names the class."""
    for content, name in ((named, "tokenizer_config.json"), (config, "config.json")):
        value = content.get("tokenizer_class")
        if value is None:
            continue
        if not isinstance(value, str) or not _CLASS.fullmatch(value):
            raise corrupt(folder / name, "tokenizer_class does not name a class")
        return value.removesuffix("Fast"), name, True
    return MODEL_CLASSES.get(str(config.get("model_type")), ""), "config.json", False


def _unfit(folder: Path, names: list[str], class_name: str, where: str) -> BadModel:
    """The error where there are no files, or none that the class can use."""
    kind = CLASSES.get(class_name)
    sets = (*GPT2.sets, *BERT.sets, *SENTENCEPIECE.sets)
    there = [file for wanted in sets for file in find(names, wanted) or ()]
    if not class_name or not there:
        known = f"neither {JSON}, nor vocab.json and merges.txt, nor {WORDPIECES},"
        needed = f"no {' and '.join(kind.sets[0])}" if kind else f"{known} nor a .model file"
        return BadModel(ABSENT, f"{folder} holds {needed}", COPY)
    if kind is None and not _BARE.fullmatch(class_name):
        why = f"{where}: {class_name}: how it uses {' and '.join(there)} is not known"
        return BadModel(UNSUPPORTED, why, SAVE)
    needed = " and ".join(kind.sets[0]) if kind else JSON
    fitting = "BertTokenizer" if WORDPIECES in there else "GPT2Tokenizer"
    return BadModel(
        UNSUPPORTED,
        f"{where}: {class_name}: it needs {needed}, and the folder holds {' and '.join(there)}",
        f'Where that is {fitting}\'s, write "tokenizer_class": "{fitting}" into {where}',
    )
