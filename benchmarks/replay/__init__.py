"""``livemind replay``: recorded turns played to a server, live and asked at the end."""
