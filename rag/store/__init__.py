"""Where passages are kept and found: one protocol, one store on this machine, one over Milvus."""
