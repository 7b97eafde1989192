"""Input at a terminal: the line editor and the commands of `gptcli chat`."""
