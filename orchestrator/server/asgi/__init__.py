"""The same application behind an ASGI server: each scope is one connection in memory."""
