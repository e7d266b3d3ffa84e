"""Where requests go: what placing them by what replicas know gains, simulated."""
