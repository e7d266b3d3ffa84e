"""Retrieval: the encoder, the index, the bridge that serves them and its client."""
