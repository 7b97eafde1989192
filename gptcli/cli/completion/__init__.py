"""Completion for shells: the words, the candidates, the scripts."""
