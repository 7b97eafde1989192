"""What models are on the machine: in the Hugging Face cache, in the package, as int8 weights.

`gptcli.models.cache` reads the cache's folders, `entries` makes one line of each model, `facts`
says all that is known of one, `verification` compares checksums, `removal` deletes one. Nothing
here knows a terminal, and nothing imports torch.
"""
