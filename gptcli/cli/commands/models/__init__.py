"""The commands of `gptcli models`, a file each."""
