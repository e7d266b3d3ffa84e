"""A collection on this machine's disk: SQLite and vectors."""
