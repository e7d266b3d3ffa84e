"""``livemind bench pool``: experts on demand under stress."""
