"""Kill -9 at random moments of ingestion, deletion and compaction; then look what is left.

A child writes to a store and says what it begins and what was acknowledged; it is killed, the store
is opened again, and every document is held against what was said. The write in progress at the kill
may have happened or not, but as a whole. ``python -m livemind.benchmarks.retrieval.durability``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...rag.base import FloatArray
from ...rag.documents.chunking import Chunk, digest
from ...rag.store.base import Document
from ...rag.store.local.store import LocalStore

DIM = 32
DOCUMENTS = 60
PASSAGES = 4
GRAPH_FROM = 60

State = dict[str, int]
"""Document id -> its edition."""


@dataclass(slots=True)
class Outcome:
    """What the kills did; ``faults`` is empty when nothing was lost or came back."""

    kills: int = 0
    acknowledged: int = 0
    in_progress: int = 0
    with_graph: int = 0
    faults: list[str] = field(default_factory=list)


def open_store(folder: Path) -> LocalStore:
    """Open the store as both sides do: with a graph from 60 passages on."""
    return LocalStore(folder, "durability", DIM, exact_below=GRAPH_FROM)


def document(name: str, edition: int) -> Document:
    """Return the document's edition: the same passages and vectors in every process."""
    texts = [f"{name} edition{edition} word{name}x{edition}x{i}" for i in range(PASSAGES)]
    chunks = tuple(Chunk(f"p_{digest(text, 8)}", text, 4, digest(text)) for text in texts)
    return Document(name, name, str(edition), chunks, vectors_of(name, edition))


def vectors_of(name: str, edition: int) -> FloatArray:
    """Return float32 (PASSAGES, DIM), unit rows, by name and edition alone."""
    noise = np.random.default_rng(zlib.crc32(f"{name}/{edition}".encode()))
    vectors = noise.standard_normal((PASSAGES, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # type: ignore[no-any-return]


def _write_until_killed(folder: Path, seed: int, pipe: int, edition: int) -> None:
    choose = random.Random(seed)
    store = open_store(folder)
    os.write(pipe, b"open\n")
    while True:
        edition += 1
        names = [f"d{choose.randrange(DOCUMENTS)}" for _ in range(choose.randint(1, 4))]
        names = list(dict.fromkeys(names))
        kind = choose.choices(("put", "delete", "compact"), (6, 3, 1))[0]
        os.write(pipe, f"begin {kind} {edition} {','.join(names)}\n".encode())
        if kind == "put":
            store.upsert([document(name, edition) for name in names])
        elif kind == "delete":
            store.delete(names)
        else:
            store.compact()
        os.write(pipe, b"done\n")


def run(folder: Path, kills: int, seed: int, longest_s: float = 0.25) -> Outcome:
    """Kill ``kills`` writers of the store in ``folder``; blocks about 0.3 s for each.

    Must be called where no other thread runs: the writers are forked.
    """
    choose, outcome, state, edition = random.Random(seed), Outcome(), State(), 0
    for number in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                _write_until_killed(folder, seed * 100_003 + number, writer, edition)
            finally:
                os._exit(1)
        os.close(writer)
        time.sleep(choose.uniform(0.005, longest_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as said:
            lines = said.read().splitlines()
        if not os.WIFSIGNALED(status):
            outcome.faults.append(f"kill {number}: the writer ended by itself")
        outcome.kills += 1
        state, edition = _check(folder, lines, state, edition, outcome, number)
    return outcome


def _after(state: State, begun: str) -> State:
    _, kind, edition, names = begun.split()
    changed = dict(state)
    for name in names.split(","):
        if kind == "put":
            changed[name] = int(edition)
        elif kind == "delete":
            changed.pop(name, None)
    return changed


def _check(
    folder: Path, lines: list[str], state: State, edition: int, outcome: Outcome, number: int
) -> tuple[State, int]:
    """Hold the store against what the writer said; returns what it holds now."""
    allowed = [state]
    for line in lines:
        if line.startswith("begin"):
            edition = int(line.split()[2])
            allowed = [allowed[0], _after(allowed[0], line)]
        elif line == "done":
            outcome.acknowledged += 1
            allowed = allowed[1:]
    outcome.in_progress += len(allowed) == 2
    try:
        store = open_store(folder)
    except Exception as exc:
        outcome.faults.append(f"kill {number}: does not open: {exc}")
        return allowed[0], edition
    try:
        outcome.with_graph += store.stats().method == "hnsw"
        held = {d.id: int(d.hash) for d in store.documents("", 10_000)}
        if held not in allowed:
            outcome.faults.append(f"kill {number}: holds {held}, need one of {allowed}")
        outcome.faults += [f"kill {number}: {fault}" for fault in _found_wrongly(store, held)]
    finally:
        store.close()
    return held, edition


def _found_wrongly(store: LocalStore, held: State) -> list[str]:
    faults = []
    if store.stats().passages != PASSAGES * len(held):
        faults.append(f"{store.stats().passages} passages for {len(held)} documents")
    for place in range(DOCUMENTS):
        name = f"d{place}"
        edition = held.get(name, 0)
        by_vector = [key for key, _ in store.dense(vectors_of(name, edition)[0], 3)]
        by_word = [key for key, _ in store.sparse(f"word{name}x{edition}x0", 3)]
        found = store.passages([*by_vector, *by_word])
        if len(found) != len({*by_vector, *by_word}):
            faults.append("a search returned a passage that is not there")
        ids = {found[key].document_id for key in by_vector[:1] if key in found}
        words = {found[key].document_id for key in by_word[:1] if key in found}
        if name in held and (ids != {name} or words != {name}):
            faults.append(f"{name} is held, but search finds {ids} and {words}")
        if any(p.document_id not in held for p in found.values()):
            faults.append("a search returned a deleted document")
    return faults


def main() -> int:
    """Run it from the command line; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of moments and writes (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder) / "store", options.kills, options.seed)
    for fault in outcome.faults:
        print(fault[:400])
    print(
        f"{outcome.kills} kills, {outcome.acknowledged} acknowledged writes, {outcome.in_progress} "
        f"cut off, {outcome.with_graph} reopened with a graph: {len(outcome.faults)} faults"
    )
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
