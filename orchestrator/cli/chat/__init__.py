"""``livemind chat``."""
