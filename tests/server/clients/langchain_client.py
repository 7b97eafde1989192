"""langchain-openai's `OpenAI`: one prompt, several, and a stream. Prints JSON."""

import json
import sys
from importlib.metadata import version

from langchain_openai import OpenAI

model = OpenAI(
    base_url=sys.argv[1], api_key="none", model="tiny-tales", max_tokens=12, temperature=0
)
print(
    json.dumps(
        {
            "version": version("langchain-openai"),
            "whole": model.invoke("Once upon a time"),
            "several": model.batch(["Once upon a time", "The king"]),
            "generated": [
                [one.text for one in found]
                for found in model.generate(["Once upon a time", "The king"]).generations
            ],
            "streamed": "".join(model.stream("Once upon a time")),
        }
    )
)
