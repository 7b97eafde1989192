"""The built-in engine for GPT-2: scheduler, KV cache, network, weights."""
