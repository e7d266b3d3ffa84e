"""Which experts are in memory: what is decided (pure), and who performs it."""
