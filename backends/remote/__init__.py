"""Experts that are OpenAI-compatible servers elsewhere."""
