"""Models brought from elsewhere: GGUF files and packages become folders that vLLM loads."""
