"""lm-evaluation-harness on tasks of a folder: `local-completions` in four ways, and its hf backend.

Arguments: URL of the server, folder of the tasks, folder of the model. Prints JSON: of each way the
metrics, and what was answered to each document. hf is left out where it cannot be imported.
"""

import json
import logging
import os
import sys
from importlib.metadata import version

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": ""}
import lm_eval
from lm_eval.tasks import TaskManager

logging.disable(logging.WARNING)
URL, TASKS, MODEL = sys.argv[1:4]
NAMES = ["tales_choices", "tales_perplexity", "tales_words"]
CONTEXT = 512


def run(kind: str, batch: int, **args: object) -> dict[str, object]:
    """The results of all tasks."""
    found = lm_eval.simple_evaluate(
        model=kind,
        model_args=args,
        tasks=NAMES,
        batch_size=batch,
        task_manager=TaskManager(include_path=TASKS),
        bootstrap_iters=0,
        device="cpu",
        log_samples=True,
    )
    metrics = {
        f"{task}/{name.removesuffix(',none')}": value
        for task, values in found["results"].items()
        for name, value in values.items()
        if isinstance(value, float) and "stderr" not in name
    }
    samples = {
        task: [sample["filtered_resps"] for sample in sorted(rows, key=lambda row: row["doc_id"])]
        for task, rows in found["samples"].items()
    }
    return {"metrics": metrics, "samples": samples}


ways = {}
for batch in (1, 8):
    for tokenized in (True, False):
        ways[f"api, batch {batch}, {'ids' if tokenized else 'strings'}"] = run(
            "local-completions",
            batch,
            model="tiny-tales",
            base_url=f"{URL}/completions",
            tokenizer=MODEL,
            tokenized_requests=tokenized,
            max_length=CONTEXT,
            num_concurrent=4 if batch == 8 else 1,
        )
try:
    # local-completions reads one id less of a window, and leaves one place for a new token.
    ways["hf"] = run("hf", 4, pretrained=MODEL, dtype="float32", max_length=CONTEXT - 2)
except ImportError as error:
    print(f"no hf backend: {error}", file=sys.stderr)
print(json.dumps({"version": version("lm_eval"), "ways": ways}))
