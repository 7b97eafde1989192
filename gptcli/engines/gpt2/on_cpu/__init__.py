"""GPT-2 on a CPU, in C and NumPy: weights in blocks, the KV cache, one native call a step."""
