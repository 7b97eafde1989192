"""The prompts of a request: read from the body, and encoded before the engine sees them.

What does not fit the context is refused here, so that a stream never begins with half an answer.
The text of a prompt is what `echo` gives back: a text as it came, ids with special tokens shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.detokenizer import Detokenizer
from gptcli.errors import BadInput
from gptcli.protocol import ModelInfo
from gptcli.server.body import shown
from gptcli.server.openai.text_places import TextPlaces, shown_bytes
from gptcli.server.refusals import Refusal, bad_field

Prompt = str | tuple[int, ...]
"""A text, or token ids; the empty text is the token that begins a text."""


@dataclass(frozen=True)
class EncodedPrompt:
    """`offsets`: where each token begins in the text, in characters; empty if not asked for.

    begun: the bytes of a character that the text ends inside of. It is one U+FFFD of `text`, and
    the first character of what is written; `before` is the text without it.
    """

    ids: tuple[int, ...]
    text: str
    offsets: tuple[int, ...] = ()
    begun: bytes = b""

    @property
    def before(self) -> str:
        """The text that stands before what is written."""
        return self.text[:-1] if self.begun else self.text


def read_prompts(given: object, info: ModelInfo) -> tuple[Prompt, ...]:
    """A text, ids, or a list of texts or of ids; none is the beginning of a text."""
    if given is None:
        return ("",)
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list):
        raise bad_field("prompt", f"a string or a list is needed, not {shown(given)}")
    if not given:
        raise bad_field("prompt", "the list is empty")
    if all(type(item) is int for item in given):
        return (_ids(given, info),)
    return tuple(_prompt(item, info) for item in given)


def _prompt(item: object, info: ModelInfo) -> Prompt:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and all(type(id) is int for id in item):
        if not item:
            raise bad_field("prompt", "one of the lists of token ids is empty")
        return _ids(item, info)
    raise bad_field("prompt", f"texts or lists of token ids are needed, not {shown(item)}")


def _ids(ids: list[int], info: ModelInfo) -> tuple[int, ...]:
    wrong = next((id for id in ids if not 0 <= id < info.vocabulary), None)
    if wrong is not None:
        last = info.vocabulary - 1
        why = f"{str(wrong)[:30]} is no token id of this model, 0 to {last}"
        raise bad_field("prompt", why)
    return tuple(ids)


def encode_prompts(
    prompts: Sequence[Prompt], tokenizer: Tokenizer, context: int, new: int, places: bool
) -> tuple[EncodedPrompt, ...]:
    """Encode the prompts, each with room for `new` tokens. Raises Refusal for one that is too long.

    places: whether offsets are asked for.
    """
    return tuple(_encoded(prompt, tokenizer, context, new, places) for prompt in prompts)


def _encoded(
    prompt: Prompt, tokenizer: Tokenizer, context: int, new: int, places: bool
) -> EncodedPrompt:
    if isinstance(prompt, str):
        if len(prompt) > context * tokenizer.longest:  # not worth the time to encode it
            raise _too_long(f"more than {len(prompt) // tokenizer.longest}", context, new)
        ids = _text_ids(prompt, tokenizer)
    else:
        ids = prompt
    if len(ids) + new > context:
        raise _too_long(str(len(ids)), context, new)
    if isinstance(prompt, str):
        return EncodedPrompt(ids, prompt, _text_offsets(prompt, ids, tokenizer) if places else ())
    return _decoded(ids, tokenizer)


def _text_ids(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    try:
        ids = tuple(tokenizer.encode(text)) if text else ()
    except BadInput as error:
        raise Refusal(400, str(error.in_python()), param="prompt") from None
    if ids:
        return ids
    begin = tokenizer.roles.begin
    if begin is None:
        what = "it has no token of the model's vocabulary" if text else "it is empty"
        raise bad_field("prompt", f"{what}, and the model has no token that begins a text")
    return (begin,)


def _text_offsets(text: str, ids: tuple[int, ...], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Where the tokens of a text begin; what the tokenizer puts before it begins at 0."""
    bare, places = tokenizer.encode_places(text)
    before = len(ids) - len(bare)
    if ids[before:] != tuple(bare):
        return (0,) * len(ids)
    return (0,) * before + tuple(min(start, len(text)) for start, _ in places)


def _decoded(ids: tuple[int, ...], tokenizer: Tokenizer) -> EncodedPrompt:
    if not tokenizer.byte_level:
        found = TextPlaces(tokenizer)
        offsets = tuple(map(found.push, ids))
        return EncodedPrompt(ids, tokenizer.decode(ids), offsets)
    data = [shown_bytes(tokenizer, id) for id in ids]
    text = b"".join(data).decode("utf-8", "replace")
    found = TextPlaces(tokenizer)
    offsets = tuple(map(found.push_bytes, data))
    goes_on = bool(Detokenizer(tokenizer, (), ids).flush())
    return EncodedPrompt(ids, text, offsets, found.begun if goes_on else b"")


def _too_long(size: str, context: int, new: int) -> Refusal:
    beside = ", and at least one new token is asked for" if new else ""
    why = f"it has {size} tokens; the model's context is {context}{beside}"
    return Refusal(400, f"prompt: {why}", param="prompt", code="context_length_exceeded")
