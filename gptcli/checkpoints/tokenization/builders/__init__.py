"""Tokenizers built from files: a module for each kind, and what they share."""
