"""Whether the answers are right: everyday questions, pasted passages, typed and sent at the end."""
