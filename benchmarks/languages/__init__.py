"""Retrieval by language."""
