"""Where passages are kept and found: a protocol, and one store on this machine."""
