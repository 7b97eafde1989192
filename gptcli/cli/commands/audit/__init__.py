"""The commands of `gptcli audit`."""
