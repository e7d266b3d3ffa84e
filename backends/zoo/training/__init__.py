"""How the embedded experts were trained; nothing here runs in a server."""
