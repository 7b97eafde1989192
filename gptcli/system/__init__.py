"""The operating system and the interpreter: the ground that every other room stands on.

Nothing here knows of models, tasks or terminals. Of gptcli it imports only `gptcli.errors`.
"""
