"""This machine: its memory, its processor, and how fast that computes."""
