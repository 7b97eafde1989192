"""A tokenizer.json made of the vocabulary in a GGUF file.

llama.cpp has a few kinds of tokenizers: `gpt2` (byte-level BPE, with a name for the way that words
are split), `llama` (sentencepiece's BPE), `t5` (its Unigram) and `bert` (WordPiece). What is made
here gives the ids that llama.cpp gives. Some files carry the tokenizer.json itself, which then
wins. Nothing is run here: the loader of tokenizers tries the result, as any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from gptcli.checkpoints.formats.locked.readers.ggml import kinds
from gptcli.checkpoints.formats.locked.readers.ggml.tokens import CONTROL, USER, Tokens, read_tokens
from gptcli.checkpoints.formats.locked.source import Refused

WHOLE = "tokenizer.huggingface.json"
TEMPLATE = "tokenizer.chat_template"
KINDS: dict[str, Callable[[Tokens], dict[str, Any]]] = {
    "gpt2": kinds.byte_level,
    "llama": kinds.sentencepiece_bpe,
    "t5": kinds.unigram,
    "bert": kinds.word_piece,
}
ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
BERT_ROLES = {"cls": "cls_token", "seperator": "sep_token", "mask": "mask_token"}  # as it is spelt


def tokenizer_files(
    file: str, metadata: Mapping[str, object], size: int
) -> tuple[dict[str, str], list[str]]:
    """Files of the result by name, and notices. Raises Refused, naming what is not known."""
    model = metadata.get("tokenizer.ggml.model")
    maker = KINDS.get(model) if isinstance(model, str) else None
    whole = metadata.get(WHOLE)
    if model in (None, "none", "no_vocab") and whole is None:
        return {}, [f"{file} holds no tokenizer: copy tokenizer.json into the folder"]
    tokens = read_tokens(file, metadata, size) if maker else None
    texts, notices = {"tokenizer_config.json": _settings(metadata, tokens)}, []
    if isinstance(whole, str):
        texts["tokenizer.json"] = whole
    elif tokens is None or maker is None:
        raise Refused(f"{file}: a tokenizer of the kind {model!r:.40}, which is not known here")
    else:
        made = maker(tokens)
        notices = list(tokens.notices)
        texts["tokenizer.json"] = json.dumps(_framed(made, tokens), ensure_ascii=False)
    return texts, notices


def _framed(made: dict[str, Any], tokens: Tokens) -> dict[str, Any]:
    """What all kinds have: added tokens, and those that stand around a text."""
    added = [
        {
            "id": id,
            "content": tokens.texts[id],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": tokens.types[id] == CONTROL,
        }
        for id in range(len(tokens.texts))
        if tokens.types[id] in (CONTROL, USER) and tokens.texts[id]
    ]
    frame = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    if tokens.before is not None or tokens.behind is not None:
        made["post_processor"] = _template(tokens)
    return frame | made


def _template(tokens: Tokens) -> dict[str, Any]:
    before, behind = tokens.before, tokens.behind

    def special(id: int | None) -> list[dict[str, Any]]:
        entry = {} if id is None else {"SpecialToken": {"id": tokens.texts[id], "type_id": 0}}
        return [entry] if entry else []

    used = {id for id in (before, behind) if id is not None}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [*special(before), text, *special(behind)],
        "pair": [*special(before), text, *special(behind), second, *special(behind)],
        "special_tokens": {
            tokens.texts[id]: {"id": tokens.texts[id], "ids": [id], "tokens": [tokens.texts[id]]}
            for id in used
        },
    }


def _settings(metadata: Mapping[str, object], tokens: Tokens | None) -> str:
    """tokenizer_config.json: the tokens by their roles, and the chat template."""
    found: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    roles = ROLES | (BERT_ROLES if metadata.get("tokenizer.ggml.model") == "bert" else {})
    for role, name in roles.items():
        id = metadata.get(f"tokenizer.ggml.{role}_token_id")
        if tokens is not None and type(id) is int and 0 <= id < len(tokens.texts):
            found[name] = tokens.texts[id]
    if isinstance(template := metadata.get(TEMPLATE), str):
        found["chat_template"] = template
    return json.dumps(found | {"clean_up_tokenization_spaces": False}, ensure_ascii=False)
