"""`gptcli train`: GPT-2 pre-trained and fine-tuned on a person's own text.

The way of a run: `data/` makes token ids and pieces of the documents, `plan.py` measures a few
steps, `compute/` trains (the only folder here that imports torch), `durability/` keeps checkpoints,
`report/` writes what came out. `recipe.py` puts them in order, as one generator of `events.py`.
"""
