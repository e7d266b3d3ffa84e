"""One turn: what is planned, performed, prepared ahead and written down."""
