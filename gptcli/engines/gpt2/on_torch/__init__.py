"""GPT-2 in torch: for GPUs, and for CPUs without our own kernels."""
