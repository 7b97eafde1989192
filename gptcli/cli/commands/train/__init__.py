"""`gptcli train`: pre-train and fine-tune GPT-2."""
