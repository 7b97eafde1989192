"""How fast is it here, and against what; see `gptcli.bench.measure`."""
