"""Retrieval: the bridge service, its index and its client."""
