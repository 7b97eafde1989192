"""A checkpoint's tokenizer: which kind it is, how it is built from files, and the tokens' roles."""
