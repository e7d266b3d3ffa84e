"""Experts that are vLLM engines of this machine. Imports vLLM where it is used, never at import."""
