"""The live engine: decides, performs and serves."""
