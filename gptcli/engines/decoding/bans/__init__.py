"""Words that no sequence of tokens may write, by the text and not by its tokens."""
