"""WordPiece: BERT's vocab.txt, which most Chinese GPT-2s have.

The settings are BERT's: `do_lower_case`, `strip_accents`, `tokenize_chinese_chars`, `never_split`.
[CLS] stands before a text and [SEP] behind it, where the vocabulary has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.builders.added import add_whole_words, put_around
from gptcli.checkpoints.tokenization.builders.reading import lines_of, without_gaps
from gptcli.checkpoints.tokenization.kinds import Recognised
from gptcli.checkpoints.tokenization.roles import token_text
from gptcli.system.strict_json import Object, corrupt

if TYPE_CHECKING:
    import tokenizers
    from tokenizers import normalizers


def build(found: Recognised, settings: Object) -> tokenizers.Tokenizer:
    """The library's tokenizer of vocab.txt. Raises BadModel, MissingInput."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    ids = lines_of(found.file)
    unknown = token_text(settings.get("unk_token")) or "[UNK]"
    if unknown not in ids:
        raise corrupt(found.file, f"no line is {unknown}, so it is no vocabulary of WordPiece")
    raw = tokenizers.Tokenizer(models.WordPiece(without_gaps(ids), unk_token=unknown))
    raw.normalizer = normalizer(settings)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece(prefix="##")
    put_around(raw, settings)
    kept = settings.get("never_split")
    add_whole_words(raw, kept if isinstance(kept, list) else [])
    return raw


def normalizer(settings: Object) -> normalizers.BertNormalizer:
    """BERT's, with the settings of a tokenizer_config.json."""
    from tokenizers import normalizers

    accents = settings.get("strip_accents")
    return normalizers.BertNormalizer(
        clean_text=settings.get("clean_text") is not False,
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
        strip_accents=accents if isinstance(accents, bool) else None,
        lowercase=settings.get("do_lower_case") is not False,
    )
