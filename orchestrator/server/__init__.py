"""The HTTP and WebSocket doors of the live engine."""
