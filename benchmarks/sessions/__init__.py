"""Many people who type, at one gateway or several."""
