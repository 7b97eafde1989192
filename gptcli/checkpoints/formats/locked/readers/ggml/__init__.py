"""What a GGUF file holds: its header, its types of numbers, its names, and its tokenizer."""
