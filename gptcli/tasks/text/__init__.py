"""Where code, sentences, passages and entities begin and end in a text."""
