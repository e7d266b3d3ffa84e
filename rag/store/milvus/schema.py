"""Where a Milvus database is, and the two collections there of each of ours.

Owns addresses, names, fields and indexes.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import Any

from ..base import StoreError, StoreUnavailable

PASSAGES = "livemind_p_"
DOCUMENTS = "livemind_d_"
IDENTITY = "/livemind"
"""Id of the row that says which encoder a collection is of, and where its passages are if that is
another place than ``PASSAGES``; a document's id is a relative path."""

TOKEN_VARIABLE = "LIVEMIND_MILVUS_TOKEN"
CONNECT_S = 10.0
M, EF_BUILD = 16, 120
NAME_BYTES, TEXT_BYTES, KEY_BYTES = 2_048, 65_535, 4_096
TITLE = "title"
_ANALYZER = {
    "tokenizer": "standard",
    "filter": ["lowercase", {"type": "stemmer", "language": "english"}],
}
_INSTALL = "install it with: pip install 'livemind[milvus]'"


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """A database: ``http://host:19530``, or a path that ends in ``.db`` for Milvus Lite."""

    uri: str
    token: str = field(default="", repr=False)

    @property
    def is_lite(self) -> bool:
        """Whether it is Milvus Lite's, in this process."""
        return self.uri.endswith(".db")

    def connect(self) -> Any:
        """Return a client. Raises StoreError (pymilvus is missing), StoreUnavailable."""
        try:
            from pymilvus import MilvusClient, MilvusException

            if self.is_lite:
                import milvus_lite  # noqa: F401
        except ImportError as exc:
            package = (exc.name or "pymilvus").partition(".")[0]
            raise StoreError(f"Milvus needs {package}: {_INSTALL}") from exc
        for name in ("pymilvus", "milvus_lite"):  # their errors quote expressions and texts
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            return MilvusClient(uri=self.uri, token=self.token, timeout=CONNECT_S)
        except MilvusException as exc:
            raise StoreUnavailable(f"no Milvus answers there (code {exc.code})") from None


def address_of(uri: str) -> MilvusAddress:
    """Return the address; its token is that of the environment, if there is one.

    Raises:
        StoreError: it is no address of Milvus.
    """
    if not uri.startswith(("http://", "https://")) and not uri.endswith(".db"):
        need = "http://host:19530, or a path that ends in .db for Milvus Lite"
        raise StoreError(f"milvus: got {uri[:100]!r}, need {need}")
    return MilvusAddress(uri, os.environ.get(TOKEN_VARIABLE, ""))


def own_name(name: str) -> str:
    """Return our collection's name as a part of those of Milvus, which has no ``-``."""
    return name.replace("-", "D")


def make_documents(client: Any, name: str) -> None:
    """Make the collection of documents if it is not there yet, and load it."""
    if not client.has_collection(name, timeout=CONNECT_S):
        _make_documents(client, name)
    client.load_collection(name, timeout=CONNECT_S)


def make_passages(client: Any, name: str, dim: int, lite: bool) -> None:
    """Make a collection of passages if it is not there yet, and load it."""
    if not client.has_collection(name, timeout=CONNECT_S):
        _make_passages(client, name, dim, lite)
    client.load_collection(name, timeout=CONNECT_S)


def has_titles(client: Any, passages: str) -> bool:
    """Return whether passages have titles there: collections of earlier versions have none."""
    fields = client.describe_collection(passages, timeout=CONNECT_S)["fields"]
    return any(field["name"] == TITLE for field in fields)


def _make_passages(client: Any, name: str, dim: int, lite: bool) -> None:
    from pymilvus import DataType, Function, FunctionType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=KEY_BYTES)
    for text in ("id", "document", "edition", "source", "hash", TITLE):
        schema.add_field(text, DataType.VARCHAR, max_length=NAME_BYTES)
    schema.add_field(
        "text", DataType.VARCHAR, max_length=TEXT_BYTES, enable_analyzer=True,
        analyzer_params=_ANALYZER,
    )  # fmt: skip
    schema.add_field("tokens", DataType.INT64)
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            "bm25", FunctionType.BM25, input_field_names=["text"], output_field_names=["words"]
        )
    )
    index = client.prepare_index_params()
    if lite:  # rows have vanished from its HNSW index (milvus-lite issue 369)
        index.add_index("vector", index_type="FLAT", metric_type="COSINE")
    else:
        index.add_index(
            "vector", index_type="HNSW", metric_type="COSINE",
            params={"M": M, "efConstruction": EF_BUILD},
        )  # fmt: skip
    index.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(
        name, schema=schema, index_params=index, consistency_level="Strong", timeout=CONNECT_S
    )


def _make_documents(client: Any, name: str) -> None:
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=NAME_BYTES)
    for text in ("source", "hash", "edition"):
        schema.add_field(text, DataType.VARCHAR, max_length=NAME_BYTES)
    schema.add_field("passages", DataType.INT64)
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)  # a collection needs a vector
    index = client.prepare_index_params()
    index.add_index("unused", index_type="FLAT", metric_type="COSINE")
    client.create_collection(
        name, schema=schema, index_params=index, consistency_level="Strong", num_shards=1,
        timeout=CONNECT_S,
    )  # fmt: skip
