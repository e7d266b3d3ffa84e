"""The live protocol: over a WebSocket and over plain HTTP."""
