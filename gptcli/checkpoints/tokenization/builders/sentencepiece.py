"""A tokenizer built from a sentencepiece model: spiece.model, tokenizer.model and their like.

The `tokenizers` library has such models, too, but gives other ids for some texts: it rewrites
characters cluster by cluster, not by the longest rule, and adds scores in 64 bits. So the text is
cut by `gptcli.checkpoints.tokenization.pieces`, which does exactly what the sentencepiece package
does, and the library keeps special tokens, ids and places. transformers 5 builds T5's differently
(unknown pieces get the id of `</s>`): the package is the referee here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.kinds import SAVE, UNSUPPORTED
from gptcli.checkpoints.tokenization.pieces.classes import (
    REFUSED,
    TokenizerClass,
    defaults,
    named_class,
)
from gptcli.checkpoints.tokenization.pieces.cutting import Cutter, Joiner
from gptcli.checkpoints.tokenization.pieces.model import PieceModel, parse
from gptcli.checkpoints.tokenization.pieces.numbering import numbered
from gptcli.checkpoints.tokenization.roles import token_text
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, corrupt, placeholder, read_bytes

if TYPE_CHECKING:
    import tokenizers

MAX_BYTES = 2**25  # the largest in use, of 256 000 pieces, have about 2^22
MAX_EXTRA_IDS = 2**10  # T5 has 100


def build(file: Path, named: Object, class_name: str) -> tokenizers.Tokenizer:
    """The library's tokenizer of a sentencepiece model, as transformers' class has it.

    named: tokenizer_config.json's and special_tokens_map.json's content. What the class puts behind
    a text is left out: it would end every prompt. Raises BadModel for a corrupt file and for a
    class that is not known, MissingInput where the file cannot be read.
    """
    found = named_class(class_name)
    if found is None:
        why = REFUSED.get(class_name.removesuffix("Fast"), "how it uses sentencepiece is not known")
        raise BadModel(UNSUPPORTED, f"{file.name}: {class_name}: {why}", SAVE)
    data = read_bytes(file, MAX_BYTES)
    try:
        model = parse(data)
        return _built(model, found, defaults(class_name) | dict(named))
    except ValueError as error:
        raise placeholder(file, data) or corrupt(file, str(error)) from None


def _built(model: PieceModel, found: TokenizerClass, settings: Object) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    texts, ids = numbered(model, found.ids)
    special = [text for text in _special(found, settings) if text in texts]
    raw = tokenizers.Tokenizer(models.WordLevel(texts, unk_token=model.texts[model.unknown]))
    cutter = Cutter(model, texts, ids, special).as_class(model, found, settings)
    raw.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(cutter)
    raw.decoder = decoders.Decoder.custom(Joiner(model, special))
    raw.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    if found.has_extra_ids:
        _add_extra_ids(raw, settings)
    _begin_with(raw, found, settings)
    return raw


def _special(found: TokenizerClass, settings: Object) -> list[str]:
    """The texts of all special tokens, each once."""
    roles = [value for role, value in settings.items() if role.endswith("_token")]
    lists = [settings.get(key) for key in ("additional_special_tokens", "extra_special_tokens")]
    others = [text for group in lists if isinstance(group, list) for text in group]
    texts = map(token_text, [*roles, *found.others, *others])
    return list(dict.fromkeys(text for text in texts if text is not None))


def _add_extra_ids(raw: tokenizers.Tokenizer, settings: Object) -> None:
    """Add T5's <extra_id_N>, the last first; where a file lists all added tokens, it does that."""
    from tokenizers import AddedToken

    count = settings.get("extra_ids")
    if not isinstance(count, int) or settings.get("added_tokens_decoder"):
        return
    raw.add_special_tokens(
        [
            AddedToken(f"<extra_id_{number}>", lstrip=True, rstrip=True, normalized=False)
            for number in reversed(range(min(count, MAX_EXTRA_IDS)))
        ]
    )


def _begin_with(raw: tokenizers.Tokenizer, found: TokenizerClass, settings: Object) -> None:
    from tokenizers import processors

    if found.optional and settings.get("add_bos_token") is False:
        return
    text = token_text(settings.get(found.before)) if found.before else None
    id = raw.token_to_id(text) if text else None
    if text and id is not None:
        raw.post_processor = processors.TemplateProcessing(
            single=[f"{text}:0", "$A:0"], special_tokens=[(text, id)]
        )
