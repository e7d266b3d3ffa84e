"""Which retrieved passages a prompt is prepared with, and which an answer gets. Pure."""
