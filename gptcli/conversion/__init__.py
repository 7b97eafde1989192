"""A model turned into another format, and proven: the library behind `gptcli models convert`."""
