"""The rows that are done: a journal that survives a kill, and tables made of it."""
