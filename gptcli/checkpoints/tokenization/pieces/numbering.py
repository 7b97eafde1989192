"""The ids that a tokenizer class gives to the pieces of its sentencepiece model."""

from __future__ import annotations

from gptcli.checkpoints.tokenization.pieces.model import PieceModel

_FAIRSEQ = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
_CAMEMBERT = {"<s>NOTUSED": 0, "<pad>": 1, "</s>NOTUSED": 2, "<unk>": 3, "<unk>NOTUSED": 4}
_MADE_UP = 7  # words that XGLM adds at the end


def numbered(model: PieceModel, scheme: str) -> tuple[dict[str, int], list[int]]:
    """The id of each token's text, and the id of each piece.

    fairseq's vocabularies begin with four tokens of their own, and the pieces follow behind them.
    """
    if scheme == "camembert":
        fixed = _CAMEMBERT | {"<mask>": len(model.texts) + 4}
        return _shifted(model, fixed, 4, {"<unk>": 3})
    if scheme in ("fairseq", "xglm"):
        last = len(model.texts) + 1
        more = {f"<madeupword{number}>": last + number for number in range(_MADE_UP)}
        fixed = _FAIRSEQ | (more if scheme == "xglm" else {"<mask>": last})
        return _shifted(model, fixed, 1, fixed)
    return {text: id for id, text in enumerate(model.texts)}, list(range(len(model.texts)))


def _shifted(
    model: PieceModel, fixed: dict[str, int], offset: int, own: dict[str, int]
) -> tuple[dict[str, int], list[int]]:
    """Pieces behind some tokens; those among them that are such a token have its id."""
    if model.unknown != 0 or model.texts[0] != "<unk>":
        raise ValueError("its first piece is not <unk>, as the tokenizer's class needs")
    ids = [own.get(text, id + offset) for id, text in enumerate(model.texts)]
    texts = fixed | dict(zip(model.texts, ids, strict=True))
    if len(set(texts.values())) < len(texts):
        raise ValueError("its first pieces are not those that the tokenizer's class needs")
    return texts, ids
