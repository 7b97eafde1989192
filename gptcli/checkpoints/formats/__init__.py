"""Checkpoints in other formats, turned into safetensors."""
