"""Who may talk to a server on this machine: shared by the bridge and the gateway."""
