"""Tasks for lm-evaluation-harness that need no network: YAML and data in a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

STORY = """There was once a miller who had three sons, a mill, and a cat. When the old man died, the
eldest took the mill, the second took the horse, and the youngest had nothing but the cat. "What
shall I do with you?" he said, and he sat down under a tree and wept. But the cat stood up before
him and spoke: "Give me a pair of boots and a sack, and you shall see that I am worth more than a
mill." The young man was so much surprised that he gave her his last piece of money. Then the cat
went into the forest, caught a hare in the sack, and carried it to the king. "My master sends you
this," she said, and the king was very much pleased. So it went on for a year and a day; and when
the king drove along the river with his daughter, the cat cried for help with all her might. They
gave the miller's son fine clothes, the princess took him by the hand, and they lived happily
together until the end of their days.""".replace("\n", " ")
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {kind}
{rest}
metadata:
  version: 1.0
"""
CHOICES = """\
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_norm
"""
ROLLING = """\
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
"""
WORDS = """\
doc_to_text: "{{text}}"
doc_to_target: "{{words}}"
target_delimiter: ""
generation_kwargs:
  until: ["\\n\\n", ".", ";", "!", "?"]
  max_gen_toks: 20
  do_sample: false
  temperature: 0
metric_list:
  - metric: exact_match
"""


def choices_of(text: str) -> list[dict[str, object]]:
    """Beginnings of sentences, each with four ends of which one is its own."""
    cut = [part.rsplit(" ", 2) for part in re.split(r"(?<=[.!?:;,]) ", text) if part.count(" ") > 3]
    rows = []
    for place, (begin, *end) in enumerate(cut):
        ends = [" " + " ".join(cut[(place + step) % len(cut)][1:]) for step in (1, 2, 5)]
        gold = place % 4
        ends.insert(gold, " " + " ".join(end))
        rows.append({"text": begin, "choices": ends, "gold": gold})
    return rows


def write_tasks(folder: Path, text: str, words: dict[str, str]) -> None:
    """Three tasks of a text; `words` are prompts, and the likeliest text after each."""
    likeliest = [
        {"text": prompt, "choices": [" zebra", first[0], " x"], "gold": 1}
        for prompt, answer in words.items()
        if (first := re.findall(r"^\W?\w+", answer))
    ]
    texts = [text, text[:300], "日本 é", "The end.", text * 4]
    tasks: dict[str, tuple[str, str, list[dict[str, object]]]] = {
        "tales_choices": ("multiple_choice", CHOICES, choices_of(text) + likeliest),
        "tales_perplexity": ("loglikelihood_rolling", ROLLING, [{"text": one} for one in texts]),
        "tales_words": (
            "generate_until",
            WORDS,
            [{"text": prompt, "words": answer} for prompt, answer in words.items()],
        ),
    }
    for name, (kind, rest, rows) in tasks.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(
            TASK.format(name=name, kind=kind, rest=rest, data=data)
        )
