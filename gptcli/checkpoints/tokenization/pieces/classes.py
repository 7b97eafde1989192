"""What each tokenizer class does around its sentencepiece model: a table.

It says what transformers 4 makes of the class with `use_fast=False`, where sentencepiece itself
cuts the text. A class that is not here is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_PARTS = "it belongs to models that read one text and write another"
_UNKNOWN, _PAD, _BEGIN, _END = "<unk>", "<pad>", "<s>", "</s>"


@dataclass(frozen=True, kw_only=True)
class TokenizerClass:
    """One class: its special tokens, what stands before a text, its ids, what it does to a text."""

    tokens: Mapping[str, str] = field(default_factory=dict)  # by role, where no file names another
    others: tuple[str, ...] = ()  # special tokens without a role
    before: str = ""  # the role of the token before every text
    optional: bool = False  # only where add_bos_token is not false
    cleaning: Literal["", "albert", "gpt_sw3"] = ""
    lower: bool = False  # where no file says do_lower_case
    ids: Literal["", "camembert", "fairseq", "xglm"] = ""
    has_extra_ids: bool = False  # extra_ids says how many tokens <extra_id_N> there are
    can_be_new: bool = False  # knows `legacy`: false is another way to treat spaces


def _tokens(**roles: str) -> Mapping[str, str]:
    return {f"{role}_token": text for role, text in roles.items()}


_FAIRSEQ = _tokens(
    bos=_BEGIN, eos=_END, unk=_UNKNOWN, sep=_END, pad=_PAD, cls=_BEGIN, mask="<mask>"
)
_LLAMA = TokenizerClass(
    tokens=_tokens(bos=_BEGIN, eos=_END, unk=_UNKNOWN),
    before="bos_token",
    optional=True,
    can_be_new=True,
)
CLASSES: Mapping[str, TokenizerClass] = {
    "": TokenizerClass(),  # no class is named: the model alone
    "T5Tokenizer": TokenizerClass(
        tokens=_tokens(eos=_END, unk=_UNKNOWN, pad=_PAD), can_be_new=True, has_extra_ids=True
    ),
    "LlamaTokenizer": _LLAMA,
    "CodeLlamaTokenizer": _LLAMA,
    "GemmaTokenizer": TokenizerClass(
        tokens=_tokens(bos="<bos>", eos="<eos>", unk=_UNKNOWN, pad=_PAD),
        before="bos_token",
        optional=True,
    ),
    "GPTSw3Tokenizer": TokenizerClass(
        tokens=_tokens(bos=_BEGIN, eos="<|endoftext|>", unk=_UNKNOWN, pad=_PAD), cleaning="gpt_sw3"
    ),
    "ReformerTokenizer": TokenizerClass(tokens=_tokens(eos=_END, unk=_UNKNOWN)),
    "BertGenerationTokenizer": TokenizerClass(
        tokens=_tokens(bos=_BEGIN, eos=_END, unk=_UNKNOWN, pad=_PAD, sep="<::::>")
    ),
    "AlbertTokenizer": TokenizerClass(
        tokens=_tokens(
            bos="[CLS]",
            eos="[SEP]",
            unk=_UNKNOWN,
            sep="[SEP]",
            pad=_PAD,
            cls="[CLS]",
            mask="[MASK]",
        ),
        before="cls_token",
        cleaning="albert",
        lower=True,
    ),
    "XLNetTokenizer": TokenizerClass(
        tokens=_tokens(
            bos=_BEGIN,
            eos=_END,
            unk=_UNKNOWN,
            sep="<sep>",
            pad=_PAD,
            cls="<cls>",
            mask="<mask>",
        ),
        others=("<eop>", "<eod>"),
        cleaning="albert",
    ),
    "BigBirdTokenizer": TokenizerClass(
        tokens=_tokens(
            bos=_BEGIN,
            eos=_END,
            unk=_UNKNOWN,
            sep="[SEP]",
            pad=_PAD,
            cls="[CLS]",
            mask="[MASK]",
        ),
        before="cls_token",
    ),
    "CamembertTokenizer": TokenizerClass(
        tokens=_FAIRSEQ,
        others=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        before="cls_token",
        ids="camembert",
    ),
    "XLMRobertaTokenizer": TokenizerClass(tokens=_FAIRSEQ, before="cls_token", ids="fairseq"),
    "XGLMTokenizer": TokenizerClass(
        tokens={role: text for role, text in _FAIRSEQ.items() if role != "mask_token"},
        others=tuple(f"<madeupword{number}>" for number in range(7)),
        before="sep_token",
        ids="xglm",
    ),
}
BARE = frozenset(
    {"PreTrainedTokenizer", "PythonBackend", "TokenizersBackend", "SentencePieceBackend"}
)
"""Names that say nothing of what is done around the model."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("MarianTokenizer", "PegasusTokenizer", "MBartTokenizer", "MBart50Tokenizer"),
            *("M2M100Tokenizer", "NllbTokenizer", "PLBartTokenizer", "SeamlessM4TTokenizer"),
            *("Speech2TextTokenizer", "SpeechT5Tokenizer", "UdopTokenizer"),
        ),
        _PARTS,
    ),
    "CpmTokenizer": "it cuts words with jieba before sentencepiece sees them",
}
"""Classes that are known, and why their ids cannot be had from the file."""


def named_class(class_name: str) -> TokenizerClass | None:
    """The entry of a class, with or without "Fast" behind its name; None for one without."""
    name = class_name.removesuffix("Fast")
    return CLASSES.get("" if name in BARE else name)


def defaults(class_name: str) -> dict[str, object]:
    """The special tokens that a class has where no file names any, by role."""
    return dict((named_class(class_name) or CLASSES[""]).tokens)
