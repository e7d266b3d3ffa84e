"""What every store promises, held against the local one and against Milvus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from livemind.rag.documents.chunking import Chunk, digest
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.store.base import (
    Document,
    Key,
    PassageStore,
    Scored,
    StoreError,
    UnknownFilterKey,
)
from livemind.rag.store.filters import Compare, Filter
from livemind.rag.store.local.store import LocalStore

Opener = Callable[..., PassageStore]

EMBEDDER = FakeEmbedder()


def doc(name: str, text: str, title: str = "", **metadata: str | float) -> Document:
    chunk = Chunk(f"p_{digest(name + text, 8)}", text, 3, digest(text), title)
    return Document(name, name, digest(text), (chunk,), EMBEDDER.embed([text]), metadata)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Milvus Lite's folder; its server is stopped afterwards."""
    pytest.importorskip("pymilvus", reason="the extra livemind[milvus] is not installed")
    manager = pytest.importorskip(
        "milvus_lite.server_manager", reason="milvus-lite is not installed"
    ).server_manager_instance
    folder = tmp_path_factory.mktemp("milvus") / "lite.db"
    yield folder
    manager.release_all()


@pytest.fixture(params=["local", "milvus"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return what opens the same collection again and again."""
    opened: list[PassageStore] = []
    folder = request.getfixturevalue("lite") if request.param == "milvus" else tmp_path / "c"

    def open_store(model: str = "fake", dim: int = 64) -> PassageStore:
        store: PassageStore
        if request.param == "milvus":
            from livemind.rag.store.milvus.schema import MilvusAddress
            from livemind.rag.store.milvus.store import MilvusStore

            store = MilvusStore(MilvusAddress(str(folder)), "con-tract", model, dim)
            if not opened:  # making a collection takes 1.5 s: the tests share one
                store.delete([found.id for found in store.documents("", 1_000)])
        else:
            store = LocalStore(folder, model, dim)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        with suppress(StoreError):
            store.close()


@pytest.fixture
def store(opener: Opener) -> PassageStore:
    store = opener()
    store.upsert(
        [
            doc("a", "the port of kestrel is 361", lang="en", year=2020),
            doc("b", "the owner of osprey is mara", lang="en", year=2024),
            doc("c", "la couleur de heron est bleu", lang="fr", year=2024),
        ]
    )
    return store


def ids(store: PassageStore, scored: list[Scored]) -> list[str]:
    found = store.passages([key for key, _ in scored])
    return [found[key].document_id for key, _ in scored]


def test_store_dense_and_sparse_find_the_document_that_fits(store: PassageStore) -> None:
    (query,) = EMBEDDER.embed(["kestrel port"])
    assert ids(store, store.dense(query, 1)) == ["a"]
    assert ids(store, store.sparse("Who is the owner of Osprey?", 1)) == ["b"]


def test_store_share_of_the_words_tells_a_name_from_a_word_by_chance(store: PassageStore) -> None:
    def share(query: str, document: str) -> float:
        scored = store.sparse(query, 9)
        return {name: one[1] for name, one in zip(ids(store, scored), scored, strict=True)}[
            document
        ]

    store.upsert([doc(f"x{place}", f"note {place} of the harbour office") for place in range(30)])
    assert share("kestrel", "a") > 0.6
    assert share("kestrel port 361", "a") > 0.6
    by_chance = share("how much does a ticket to the office cost on sundays", "x7")
    assert 0.0 < by_chance < 0.25
    assert share("what is said of kestrel", "a") > 2 * by_chance
    assert store.sparse("tickets cost money", 9) == []


def test_store_cosines_are_those_of_a_search(store: PassageStore) -> None:
    (query,) = EMBEDDER.embed(["kestrel port"])
    found = dict(store.dense(query, 9))
    store.delete(["c"])
    left = dict(store.dense(query, 9))
    assert len(found) == len(left) + 1
    assert store.cosines(query, list(found)) == pytest.approx(left, abs=1e-5)
    assert store.cosines(query, []) == {}


def test_store_titles_are_kept(store: PassageStore) -> None:
    store.upsert([doc("d", "the osprey dives", "Birds > Osprey"), doc("e", "the end", "語" * 999)])
    scored = [*store.sparse("osprey dives", 1), *store.sparse("the end", 1)]
    found = {
        passage.document_id: passage.title
        for passage in store.passages([key for key, _ in scored]).values()
    }
    assert found["d"] == "Birds > Osprey"
    assert set(found["e"]) == {"語"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"type": "eq", "key": "lang", "value": "fr"}, {"c"}),
        ({"type": "ne", "key": "lang", "value": "fr"}, {"a", "b"}),
        ({"type": "gte", "key": "year", "value": 2024}, {"b", "c"}),
        ({"type": "in", "key": "document_id", "value": ["a", "c"]}, {"a", "c"}),
        ({"type": "nin", "key": "source", "value": ["a"]}, {"b", "c"}),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "eq", "key": "lang", "value": "en"},
                    {"type": "lt", "key": "year", "value": 2021},
                ],
            },
            {"a"},
        ),
    ],
)
def test_store_filter_keeps_what_fits(
    store: PassageStore, where: dict[str, object], expected: set[str]
) -> None:
    parsed: Filter = TypeAdapter(Filter).validate_python(where)
    (query,) = EMBEDDER.embed(["anything"])
    assert set(ids(store, store.dense(query, 9, parsed))) == expected
    assert set(ids(store, store.sparse("kestrel osprey heron", 9, parsed))) == expected


def test_store_unknown_filter_key_is_refused_by_name(store: PassageStore) -> None:
    where = Compare(type="eq", key="colour", value="x")
    with pytest.raises(UnknownFilterKey, match="'colour'"):
        store.dense(EMBEDDER.embed(["x"])[0], 1, where)


def test_store_sql_in_query_and_value_is_only_text(store: PassageStore) -> None:
    attack = "'; DROP TABLE documents; -- \" OR 1=1 NEAR("
    assert store.sparse(attack, 5) == []
    where = Compare(type="eq", key="lang", value=attack)
    assert store.dense(EMBEDDER.embed(["x"])[0], 5, where) == []
    assert store.stats().documents == 3


def test_store_replaced_document_is_found_by_its_new_words_alone(store: PassageStore) -> None:
    before = store.version
    store.upsert([doc("a", "falcon moved")])
    assert store.version != before
    assert store.sparse("kestrel", 5) == []
    assert ids(store, store.sparse("falcon", 5)) == ["a"]
    assert store.stats().passages == 3


def test_store_deleted_document_is_gone_from_every_search(store: PassageStore) -> None:
    assert store.delete(["a", "nobody"]) == 1
    (query,) = EMBEDDER.embed(["kestrel port"])
    assert "a" not in ids(store, store.dense(query, 9))
    assert store.sparse("kestrel", 5) == []
    assert [d.id for d in store.documents("", 9)] == ["b", "c"]


def test_store_vector_of_wrong_length_is_refused_and_nothing_written(store: PassageStore) -> None:
    good = doc("d", "new")
    bad = Document("e", "e", "h", good.chunks, np.ones((1, 32), np.float32))
    with pytest.raises(ValueError, match="'e'"):
        store.upsert([good, bad])
    assert store.hashes(["d", "e"]) == {}
    with pytest.raises(ValueError, match="need \\(64,\\)"):
        store.dense(np.ones(32, np.float32), 1)


@pytest.mark.parametrize("value", ["d'e\"x", "line\n\\ ü", "", "日本"])
def test_store_filter_value_of_any_characters_is_compared_as_it_is(
    store: PassageStore, value: str
) -> None:
    store.upsert([doc("d", "anything else", lang=value)])
    where = Compare(type="eq", key="lang", value=value)
    (query,) = EMBEDDER.embed(["anything"])
    assert ids(store, store.dense(query, 9, where)) == ["d"]


def test_store_filter_key_that_a_document_lacks_fits_no_comparison(store: PassageStore) -> None:
    store.upsert([doc("d", "nothing is said of it")])
    (query,) = EMBEDDER.embed(["anything"])
    for kind, value in (("ne", "fr"), ("nin", ["fr"])):
        where = Compare.model_validate({"type": kind, "key": "lang", "value": value})
        assert set(ids(store, store.dense(query, 9, where))) == {"a", "b"}


KINDS: dict[str, str | float] = {
    "text": "2019",
    "whole": 1,
    "real": 1.5,
    "yes": True,
    "no": False,
    "word": "true",
}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("gt", 0, {"whole", "real"}),
        ("lt", 5000, {"whole", "real"}),
        ("gt", "1", {"text", "word"}),
        ("eq", 1, {"whole"}),
        ("eq", True, {"yes"}),
        ("eq", "true", {"word"}),
        ("ne", 1, {"real"}),
        ("ne", True, {"no"}),
        ("ne", "2019", {"word"}),
        ("in", [1, "true"], {"whole", "word"}),
        ("in", [False], {"no"}),
        ("nin", [1], {"real"}),
        ("nin", [1, "true"], {"real", "text"}),
        ("nin", [True], {"no"}),
    ],
)
def test_store_filter_compares_values_of_one_kind_alone(
    store: PassageStore, kind: str, value: object, expected: set[str]
) -> None:
    kinds = dict(KINDS)
    if not isinstance(store, LocalStore):  # Milvus Lite takes a boolean for a number
        asked = {type(one) for one in (value if isinstance(value, list) else [value])}
        left_out = ("whole", "real") if bool in asked else ("yes", "no")
        kinds = {name: given for name, given in KINDS.items() if name not in left_out}
    store.upsert([doc(name, f"of kind {name}", value=given) for name, given in kinds.items()])
    where = Compare.model_validate({"type": kind, "key": "value", "value": value})
    (query,) = EMBEDDER.embed(["kind"])
    assert set(ids(store, store.dense(query, 9, where))) == expected


def test_store_documents_are_listed_by_id_a_page_at_a_time(store: PassageStore) -> None:
    for name in ("f", "d", "e"):
        store.upsert([doc(name, "more", lang="en")])
    assert [d.id for d in store.documents("", 4)] == ["a", "b", "c", "d"]
    assert [d.id for d in store.documents("d", 4)] == ["e", "f"]
    (info,) = store.documents("b", 1)
    assert (info.source, info.passages, info.metadata) == ("c", 1, {"lang": "fr", "year": 2024})


def test_store_opened_again_has_what_was_acknowledged(store: PassageStore, opener: Opener) -> None:
    store.upsert([doc("d", "falcon moved")])
    store.delete(["b"])
    store.close()
    again = opener()
    assert [d.id for d in again.documents("", 9)] == ["a", "c", "d"]
    assert ids(again, again.sparse("falcon", 9)) == ["d"]
    assert set(again.hashes(["b", "d"])) == {"d"}
    assert (again.stats().documents, again.stats().passages) == (3, 3)


def test_store_of_another_encoder_is_refused(store: PassageStore, opener: Opener) -> None:
    store.close()
    with pytest.raises(StoreError, match="holds vectors of fake \\(64 dimensions\\)"):
        opener("other", 16)


def test_store_passage_removed_after_a_search_is_not_returned(store: PassageStore) -> None:
    keys: list[Key] = [key for key, _ in store.sparse("kestrel osprey", 9)]
    store.upsert([doc("a", "falcon")])
    assert [p.document_id for p in store.passages(keys).values()] == ["b"]
    assert store.passages([]) == {}


def test_store_document_of_no_passages_is_kept(store: PassageStore) -> None:
    store.upsert([Document("empty", "empty", "h", (), np.empty((0, 64), np.float32))])
    assert store.hashes(["empty"]) == {"empty": "h"}
    assert store.stats().documents == 4
