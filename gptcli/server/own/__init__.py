"""Routes of gptcli's own: its tasks, its scores, and the tokenizer."""
