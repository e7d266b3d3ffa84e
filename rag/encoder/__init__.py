"""The sentence encoder of the router and the bridge."""
