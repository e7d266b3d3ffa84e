"""``livemind top``: the gateways of a fleet and their sum, in the terminal."""
