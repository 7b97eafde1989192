"""The operating system and the interpreter: what every other room stands on.

It knows nothing of models, tasks or terminals, so that all of them may import it; of gptcli it
imports `gptcli.errors` alone.
"""
