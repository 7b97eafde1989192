"""A line of OpenAI's batch format: a request to an endpoint, as a prompt with its settings.

Only the two endpoints that continue text are known. What would change the answer and cannot be done
is an error rather than left out: several answers, tools, a suffix. The model's name is not looked
at, as a run has one model. Format: https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

from collections.abc import Mapping

from gptcli.batch.input.overrides import SETTING_NAMES
from gptcli.inputs.records import bad

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

# By key, the values that change nothing; null never does.
_UNSERVED: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
}
# Fields that say nothing of the text, or are read here under another name.
_SERVED = SETTING_NAMES | {
    *("model", "prompt", "messages", "max_completion_tokens", "top_logprobs", "min_tokens"),
    *("stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier"),
}
_NOTHING: tuple[object, ...] = (None, False, [], {})  # 0 is False
_HOW = "Write the messages as they should be continued."


def is_line(row: Mapping[str, object]) -> bool:
    """Whether a row of JSON lines is one of an OpenAI batch."""
    return {"custom_id", "url", "body"} <= row.keys()


def asked(row: Mapping[str, object], where: str) -> tuple[object, dict[str, object]]:
    """The prompt, not yet checked, and the settings. Raises BadInput, naming what is not known."""
    if not is_line(row):
        why = "not a line of an OpenAI batch"
        raise bad(where, why, "It has custom_id, url and body; for others: --input-format jsonl.")
    url, body = row["url"], row["body"]
    if row.get("method", "POST") != "POST":
        raise bad(where, f"method {row['method']!r}", 'Only "POST" asks for a text.')
    if url not in (COMPLETIONS, CHAT):
        raise bad(where, f"url {url!r} is not served", f"Give {COMPLETIONS} or {CHAT}.")
    if not isinstance(body, dict):
        raise bad(where, "body is no object", 'Write "body": {"prompt": "Once upon a time"}.')
    for name, neutral in _UNSERVED.items():
        value = body.get(name)
        if value is not None and (isinstance(value, bool), value) not in [
            (isinstance(same, bool), same) for same in neutral
        ]:
            raise bad(where, f"{name} = {value!r} cannot be done", f"Leave {name} out.")
    text = _conversation(body, where) if url == CHAT else _prompt(body, where)
    return text, _settings(body, where)


def unknown(row: Mapping[str, object]) -> list[str]:
    """The fields of a line's body that are not known, and do something elsewhere."""
    body = row["body"]
    known = _SERVED | _UNSERVED.keys()
    if not isinstance(body, Mapping):
        return []
    return [name for name, value in body.items() if name not in known and value not in _NOTHING]


def _prompt(body: Mapping[str, object], where: str) -> object:
    if "prompt" not in body:
        raise bad(where, "body has no prompt", f"Conversations go to {CHAT}.")
    value = body["prompt"]
    if isinstance(value, list) and not (value and all(type(item) is int for item in value)):
        if len(value) != 1 or not isinstance(value[0], str):
            raise bad(where, "prompt is a list", "Give one text, or its token ids, a line.")
        return value[0]
    return value


def _conversation(body: Mapping[str, object], where: str) -> str:
    """The messages as one text, `role: content` a line; a single one of the user's is bare."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad(where, "body has no messages", f"Prompts go to {COMPLETIONS}.")
    turns = [_turn(message, where) for message in messages]
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    return "\n".join(f"{role}: {content}" for role, content in turns)


def _turn(message: object, where: str) -> tuple[str, str]:
    """Role and text of a message; the text may come in parts."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad(where, "a message has no role", _HOW)
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [
        part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"
    ]
    known = [text for text in texts if isinstance(text, str)]
    if not parts or len(known) < len(parts):
        raise bad(where, "a message's content is not a text", _HOW)
    return message["role"], "".join(known)


def _settings(body: Mapping[str, object], where: str) -> dict[str, object]:
    """Settings among the body's keys, chat's own spellings included."""
    found = {
        name: value for name, value in body.items() if name in SETTING_NAMES and value is not None
    }
    least = body.get("min_tokens")  # vLLM's name
    if least is not None:
        found.setdefault("min_new_tokens", least)
    longest = body.get("max_completion_tokens")
    if longest is not None:
        if "max_tokens" in found:
            raise bad(where, "max_tokens is given twice", "Drop max_completion_tokens.")
        found["max_tokens"] = longest
    if found.get("logprobs") is False:
        del found["logprobs"]
    elif found.get("logprobs") is True:  # chat says how many beside it
        most = body.get("top_logprobs")
        found["logprobs"] = 0 if most is None else most
    return found
