"""Images of a request: allowed, fetched, decoded."""
