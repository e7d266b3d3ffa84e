"""One small model on this processor: LiveMind's engine, vLLM as it is, and llama.cpp."""
