"""`/tokenize`, `/detokenize`, `/tokenizer_info`: the model's tokenizer, as other servers give it.

/tokenizer_info is off by default. lm-eval asks for it before anything else, and where it is
answered lm-eval lets the server tokenize its texts, one request each, and with the special tokens
that the server adds; without an answer it uses the model's own files. Nothing decides by /tokenize
alone, so that is always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptcli.chat_templates import template_text
from gptcli.checkpoints.tokenization.roles import named_roles, token_text
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.server.body import field, shown, token_ids
from gptcli.server.refusals import Refusal, bad_field
from gptcli.server.service import Service

MESSAGES = "conversations are not tokenized; give their text as prompt"
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token")


def tokenized(body: Mapping[str, Any], service: Service) -> dict[str, object]:
    """The tokens of `prompt` (vLLM's name) or `content` (llama.cpp's). Raises Refusal."""
    service.check_model(field(body, "model", str))
    if body.get("messages") is not None:
        raise bad_field("messages", MESSAGES, code="unsupported_parameter")
    prompt, content = field(body, "prompt", str), field(body, "content", str)
    if (prompt is None) == (content is None):
        raise bad_field("prompt", "give it, or content: one of them")
    # Without a word each does as the server whose name for the text is used.
    default = field(body, "add_special", bool, default=prompt is not None)
    special = field(body, "add_special_tokens", bool, default=default)
    tokenizer = service.engine.engine.tokenizer
    ids = tokenizer.encode(content if prompt is None else prompt, bare=not special)
    found: dict[str, object] = {"count": len(ids), "max_model_len": service.info.context}
    pieces = field(body, "with_pieces", bool, default=False)
    found["tokens"] = [_piece(tokenizer, id) for id in ids] if pieces else ids
    if field(body, "return_token_strs", bool, default=False):
        found["token_strs"] = [tokenizer.raw.id_to_token(id) for id in ids]
    return found


def _piece(tokenizer: Tokenizer, id: int) -> dict[str, object]:
    """A token with its text; the bytes of one that is no text by itself, as llama.cpp has it."""
    data = tokenizer.token_bytes(id)
    if data:
        try:
            return {"id": id, "piece": data.decode()}
        except UnicodeDecodeError:
            return {"id": id, "piece": list(data)}
    return {"id": id, "piece": tokenizer.token_text(id)}


def detokenized(body: Mapping[str, Any], service: Service) -> dict[str, object]:
    """The text of `tokens`. Raises Refusal."""
    service.check_model(field(body, "model", str))
    if body.get("tokens") is None:
        raise bad_field("tokens", f"a list of token ids is needed, not {shown(None)}")
    ids, known = token_ids(body, "tokens"), service.info.vocabulary
    if wrong := [id for id in ids if not 0 <= id < known]:
        why = f"{str(wrong[0])[:30]} is no token id of this model, 0 to {known - 1}"
        raise bad_field("tokens", why)
    raw = service.engine.engine.tokenizer.raw
    text = raw.decode(list(ids), skip_special_tokens=False)
    return {"prompt": text, "content": text}


def tokenizer_info(service: Service) -> dict[str, object]:
    """What a client needs to tokenize here. Raises Refusal where it is not given."""
    if not service.tokenizer_info:
        why = "it is not given, so that clients tokenize by the model's files; see --tokenizer-info"
        raise Refusal(404, why, code="not_found")
    tokenizer = service.engine.engine.tokenizer
    folder = service.info.adapted.tokenizer_folder or service.info.folder
    named = named_roles(folder) if folder is not None else {}
    found: dict[str, object] = {name: token_text(named.get(name)) for name in NAMED}
    for name, id in (("bos_token", tokenizer.roles.begin), ("eos_token", tokenizer.roles.end)):
        if found[name] is None and id is not None:
            found[name] = tokenizer.raw.id_to_token(id)
    return {
        "tokenizer_class": named.get("tokenizer_class"),
        **found,
        "bos_token_id": tokenizer.roles.begin,
        "eos_token_id": tokenizer.roles.end,
        "vocab_size": service.info.vocabulary,
        "model_max_length": service.info.context,
        "chat_template": None if folder is None else template_text(folder),
    }
