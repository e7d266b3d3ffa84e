"""A collection in a Milvus database."""
