"""Many prompts from files: read row by row, answered by one engine, written durably in order."""
