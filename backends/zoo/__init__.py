"""The embedded experts: data, tokenizer, training, evaluation and the committed models."""
