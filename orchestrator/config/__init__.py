"""The configuration: one frozen tree of settings, read from a JSON file."""
