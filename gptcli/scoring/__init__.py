"""Log-probabilities, perplexity and surprisal of texts: the library behind `gptcli score`."""
