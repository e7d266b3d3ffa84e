"""``livemind bench load``: many sessions at a time."""
