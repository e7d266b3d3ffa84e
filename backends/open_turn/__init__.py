"""Which tokens of an open turn no further text can change, derived from the tokenizer itself."""
