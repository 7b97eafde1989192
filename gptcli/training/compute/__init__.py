"""What is computed: the network, its loss, LoRA, the optimizer and one step. Imports torch."""
