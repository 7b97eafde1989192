"""The text around tokens: how they are joined, and what a vocabulary lacks."""
