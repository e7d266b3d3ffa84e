"""Parsing in a process of its own: a hostile file costs that process, never the service.

Owns its limits: memory, seconds and one restart after each kill. The event loop is spared as well:
parsers are pure Python and would hold the interpreter.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from .blocks import UnreadableFile
from .chunking import MAX_TOKENS, Chunk, CountTokens, chunk, estimate_tokens
from .markdown import MetaValue
from .parsing import metadata_of, parse

MEMORY_BYTES = 2 * 2**30
TIME_LIMIT_S = 30.0

_count: CountTokens = estimate_tokens


def load_counter(tokenizer: Path | None) -> CountTokens:
    """Return the token counter of a ``tokenizer.json``; None = an estimate by words.

    Raises:
        ValueError: the file is not a tokenizer.
    """
    if tokenizer is None:
        return estimate_tokens
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as exc:  # tokenizers raises a bare Exception
        raise ValueError(f"{tokenizer}: not a tokenizer.json") from exc
    loaded.no_truncation()
    loaded.no_padding()

    def count(text: str) -> int:
        readable = text.encode("utf-8", "replace").decode()
        return len(loaded.encode(readable, add_special_tokens=False).ids)

    return count


@dataclass(frozen=True, slots=True)
class Parsed:
    """The passages of a file, and what it says of itself."""

    chunks: tuple[Chunk, ...]
    metadata: Mapping[str, MetaValue]


def parse_and_chunk(
    document_id: str, content: bytes, format_name: str, count: CountTokens, max_tokens: int
) -> Parsed:
    """Parse and cut in this process. Raises UnreadableFile."""
    chunks = chunk(document_id, parse(document_id, content, format_name), count, max_tokens)
    return Parsed(tuple(chunks), metadata_of(content, format_name))


NOT_STARTED = (
    "the process that reads files cannot start: a program of your own has to begin its work under "
    'if __name__ == "__main__", as every process that Python starts anew imports it once more'
)


class ParseProcess:
    """Parses for the tasks of one event loop, one file after another."""

    def __init__(
        self,
        tokenizer: Path | None = None,
        max_tokens: int = MAX_TOKENS,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        """Start no process yet.

        Args:
            tokenizer: the experts' ``tokenizer.json``, for token counts.
            max_tokens: of a passage.
            time_limit_s: of one file.
        """
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._time_limit_s = time_limit_s
        self._pool: ProcessPoolExecutor | None = None
        self._turn = asyncio.Lock()

    async def read(self, document_id: str, content: bytes, format_name: str) -> Parsed:
        """Return the passages of a file, and its own metadata.

        Raises:
            UnreadableFile: not readable, or it took more memory or time than a file may, or the
                process cannot start.
        """
        async with self._turn:
            loop = asyncio.get_running_loop()
            try:
                self._pool = self._pool or await self._started()
                job = loop.run_in_executor(
                    self._pool, _work, document_id, content, format_name, self._max_tokens
                )
                return await asyncio.wait_for(job, self._time_limit_s)
            except TimeoutError:
                self._kill()
                limit = f"{self._time_limit_s:g} s"
                raise UnreadableFile(f"{document_id}: takes longer than {limit} to read") from None
            except (BrokenProcessPool, MemoryError):
                self._kill()
                limit = f"{MEMORY_BYTES >> 20} MiB"
                raise UnreadableFile(f"{document_id}: needs more than {limit} to read") from None
            except asyncio.CancelledError:
                self._kill()
                raise

    async def aclose(self) -> None:
        """End the process."""
        self._kill()

    async def _started(self) -> ProcessPoolExecutor:
        """Return a running process; to start it would hold the loop for some milliseconds."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._pool = await starting
            raise

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._tokenizer,))
        try:
            pool.submit(int).result()  # the first job starts the process
        except (BrokenProcessPool, RuntimeError):
            pool.shutdown(wait=False)
            raise UnreadableFile(NOT_STARTED) from None
        return pool

    def _kill(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(tokenizer: Path | None) -> None:
    global _count
    os.nice(5)
    belong_to_parent()
    _limit_memory()
    _count = load_counter(tokenizer)


def belong_to_parent() -> None:
    """End this process when the service is gone, also when it was killed; leave ctrl-c to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _work(document_id: str, content: bytes, format_name: str, max_tokens: int) -> Parsed:
    try:
        return parse_and_chunk(document_id, content, format_name, _count, max_tokens)
    except (UnreadableFile, MemoryError):
        raise
    except Exception as exc:  # a parser tripped over the file: the file's fault as far as users go
        reason = f"not readable as {format_name} ({type(exc).__name__})"
        raise UnreadableFile(f"{document_id}: {reason}") from None
