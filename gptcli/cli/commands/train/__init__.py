"""`gptcli train`: a module for each of its commands."""
