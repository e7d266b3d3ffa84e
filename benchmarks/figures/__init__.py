"""From turns to numbers, for every benchmark."""
