"""Adapters in PEFT's layout: their files, what they change in a base, and the changed tensors."""
