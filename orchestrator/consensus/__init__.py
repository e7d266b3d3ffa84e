"""Who writes an answer: one expert, or several that settle it together."""
