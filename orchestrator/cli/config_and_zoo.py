"""The small commands: ``config`` and ``zoo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .errors import CommandError

HANDBOOK = Path(__file__).resolve().parents[2] / "rag" / "handbook"


def config_check(options: argparse.Namespace) -> int:
    """Print whether the file is valid; 0 or 2."""
    from ..config.settings import check_config

    return 2 if check_config(options.file) else 0


def config_show(options: argparse.Namespace) -> int:
    """Print the effective settings as JSON."""
    from ..config.settings import describe, load_settings

    print(describe(load_settings(options.file)))
    return 0


def config_reference(options: argparse.Namespace) -> int:
    """Print what every key means."""
    from ..config.reference import reference

    print(reference(), end="")
    return 0


def zoo_list(options: argparse.Namespace) -> int:
    """Print the embedded experts."""
    from rich.console import Console
    from rich.table import Table

    from ...backends.zoo.catalog import CATALOG

    table = Table("model_path", "domain", "what it is for", "weights", box=None)
    for model in CATALOG:
        weights = model.path / "model.safetensors"
        size = f"{weights.stat().st_size / 1e6:.1f} MB" if weights.exists() else "not there"
        table.add_row(f"zoo:{model.name}", model.domain, model.description, size)
    Console().print(table)
    return 0


def zoo_random(options: argparse.Namespace) -> int:
    """Write a random-weight model."""
    from ...backends.zoo.families import write_family
    from ...backends.zoo.random_images import write_random_image_model
    from ...backends.zoo.random_weights import parse_parameters, write_random_model

    folder: Path = options.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder}: exists and is not an empty folder", 2)
    try:
        if options.images:
            count = write_random_image_model(folder)
        elif options.like is not None:
            count = write_family(folder, options.like)
        else:
            count = write_random_model(folder, parse_parameters(options.params))
    except ValueError as exc:
        name = "--params" if options.like is None else "--like"
        raise CommandError(f"{name}: {exc}", 2) from None
    except ImportError:
        raise CommandError("needs torch: install livemind with the cpu or gpu extra") from None
    print(f"{folder}: {count:,} random parameters; it knows nothing")
    return 0
