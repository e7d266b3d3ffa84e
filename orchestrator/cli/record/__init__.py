"""``livemind record``: a proxy that writes down when people type, and what they then waited."""
