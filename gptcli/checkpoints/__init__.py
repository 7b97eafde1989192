"""From a model's name to a checked folder, its tokenizer and its configuration."""
