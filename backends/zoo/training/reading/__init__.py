"""How the adapter of the default expert was trained: answers from a text that is given."""
