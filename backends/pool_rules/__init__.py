"""What the pool decides: which expert is loaded next, which one leaves, who gets in. Pure."""
