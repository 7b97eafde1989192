"""What readers of GPT-2s have in common: the configuration, and the files of the tokenizer."""
