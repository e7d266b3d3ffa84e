"""``livemind bench retrieval``: recall, how early, how fast."""
