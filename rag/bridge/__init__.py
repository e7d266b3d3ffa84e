"""The retrieval bridge: a small HTTP service over a library of passages."""
