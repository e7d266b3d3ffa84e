"""How the shipped classifier was trained and calibrated; nothing here runs in a server."""
