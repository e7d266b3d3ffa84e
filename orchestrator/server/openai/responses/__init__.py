"""``/v1/responses``: requests, responses and their events, the store of those that are kept."""
