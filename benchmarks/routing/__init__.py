"""``livemind bench routing``: routes on partial input."""
