"""What the model thinks of a text, in numbers: the library behind `gptcli score`."""
