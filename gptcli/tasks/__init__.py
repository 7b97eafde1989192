"""Tasks as data: a prompt, examples, options and how the answer is read, each in a TOML file.

`task` says what a task is, `schema` reads one, `catalog` finds them; `prompts` and `readings` turn
an input into prompts and what a model wrote into an answer; `solver` runs them over an engine.
"""
