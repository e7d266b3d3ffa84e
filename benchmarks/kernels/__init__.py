"""``livemind bench kernels``: each kernel against its peers."""
