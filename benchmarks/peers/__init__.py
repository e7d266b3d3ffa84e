"""Other people's servers and load testers on the same workload."""
