"""The client of a bridge: deadlines, hedging, a breaker."""
