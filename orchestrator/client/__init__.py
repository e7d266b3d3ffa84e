"""The client of LiveMind's own API; ``livemind.client`` has its names."""
