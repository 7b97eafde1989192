"""litellm: text_completion, its stream, and completion() over the same route. Prints JSON."""

import json
import os
import sys
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network
import litellm

asked = {
    "model": "text-completion-openai/tiny-tales",
    "api_base": sys.argv[1],
    "api_key": "none",
    "max_tokens": 12,
    "temperature": 0,
}
whole = litellm.text_completion(prompt="Once upon a time", logprobs=1, **asked)
stream = litellm.text_completion(prompt="Once upon a time", stream=True, **asked)
chat = litellm.completion(
    messages=[{"role": "system", "content": "Once"}, {"role": "user", "content": "The king"}],
    **asked,
)
print(
    json.dumps(
        {
            "version": version("litellm"),
            "whole": whole.choices[0].text,
            "logprobs": len(whole.choices[0].logprobs.tokens),
            "tokens": whole.usage.total_tokens,
            "streamed": "".join(piece.choices[0].text or "" for piece in stream),
            "first": chat.choices[0].message.content,
        }
    )
)
