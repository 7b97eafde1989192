"""How a model treats groups of people, measured: the library behind `gptcli audit`."""
