"""The filter over the text that leaves: phrase lists, a classifier, and text held until clear."""
