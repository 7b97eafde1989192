"""Other ways to run GPT-2, for `gptcli bench --against`; see `gptcli.bench.peers.roster`."""
