"""What the gateway itself costs, beside other proxies."""
