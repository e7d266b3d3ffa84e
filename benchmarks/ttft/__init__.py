"""``livemind bench ttft``: time to first token from the end of the input."""
