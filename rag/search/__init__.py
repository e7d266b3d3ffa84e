"""Collections and searching them: words and vectors, fused and reranked."""
