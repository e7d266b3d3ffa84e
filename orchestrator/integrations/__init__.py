"""LiveMind inside voice frameworks, each an extra; imported as ``livemind.integrations``."""
