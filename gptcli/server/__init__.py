"""`gptcli serve`: an OpenAI-compatible server over one engine."""
