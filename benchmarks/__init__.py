"""Benchmarks of LiveMind against the same engine without it."""
