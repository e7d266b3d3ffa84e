"""How what there is of turns, sessions and experts is shared between those who ask."""
