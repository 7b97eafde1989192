"""Tasks as data: prompt, examples, options and reading of the answer, each in a TOML file.

`definition/` reads, checks and finds task files. `prompts` turns an input into a prompt, `plans`
into the requests that answer it, and `solver` runs the plans of many inputs over one engine.
`text/` splits long inputs and reads answers; `outcome` makes the Answer.
"""
