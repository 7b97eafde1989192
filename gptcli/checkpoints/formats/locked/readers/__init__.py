"""The readers of other programs' files, one for each format, and what they share."""
