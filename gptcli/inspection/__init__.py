"""What happens inside the model while it reads a text, as plain data and as pictures of it.

    from gptcli import Load, load
    from gptcli.inspection import attention_view, inside, text_view

    model = load("gpt2", Load(dtype="float32"))
    tokens = text_view(model.engine, "Once upon a time").tokens
    weights = attention_view(inside(model.engine), "Once upon a time").weights

All views read the begin token before the text, unless they are made with `bos=False`. `views` holds
the data, `reading` makes them, `records` writes them as JSON, CSV and arrays, `plots` draws them.
"""

from gptcli.inspection.reading import (
    attention_view,
    attribution_view,
    inside,
    lens_view,
    next_view,
    text_view,
    tokens_view,
)
from gptcli.inspection.records import arrays, npz, record
from gptcli.inspection.views import (
    AttentionView,
    AttributionView,
    LensView,
    NextView,
    TextView,
    TokenView,
)

__all__ = [
    "AttentionView",
    "AttributionView",
    "LensView",
    "NextView",
    "TextView",
    "TokenView",
    "arrays",
    "attention_view",
    "attribution_view",
    "inside",
    "lens_view",
    "next_view",
    "npz",
    "record",
    "text_view",
    "tokens_view",
]
