"""Experts: one protocol, in-process vLLM and remote servers behind it."""
