"""How a report of the doctor looks on a terminal: experts, memory plan, findings."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...backends.doctor import Examination, ExpertFacts, Finding, MemoryPlan
from ...backends.doctor.quantities import gib

MARKS = {"error": ("red", "✗"), "warning": ("yellow", "!"), "info": ("cyan", "i")}
BAR_CELLS = 40


def show(
    report: Examination, file: Path, *, strict: bool = False, console: Console | None = None
) -> None:
    """Print the whole report."""
    console = console or Console(highlight=False)
    engine = f" · {report.vllm}" if report.vllm else ""
    console.print(f"[bold]{escape(str(file))}[/]{escape(engine)}", soft_wrap=True)
    if report.experts:
        console.print()
        console.print(experts_table(report.experts))
    if report.plan is not None and any(e.kind != "remote" for e in report.experts):
        console.print()
        console.print(plan_view(report.plan, {e.expert_id: e for e in report.experts}))
    for finding in report.findings:
        console.print()
        console.print(finding_view(finding))
    console.print()
    console.print(verdict(report, strict=strict))


def experts_table(experts: tuple[ExpertFacts, ...]) -> Table:
    """Return one row an expert."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("expert", ratio=1)
    for name in ("weights", "KV/token", "context", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for expert in experts:
        if expert.kind == "remote":
            table.add_row(f"{escape(expert.expert_id)}\n  [dim]{escape(expert.source)}[/]")
            continue
        memory = expert.memory_bytes
        table.add_row(
            _expert(expert),
            _weights(expert),
            _kib(expert.kv_bytes_per_token),
            _context(expert),
            "?" if memory is None else gib(memory),
        )
    return table


def _expert(expert: ExpertFacts) -> str:
    mark = {True: "[green]✓[/] ", False: "[red]✗[/] ", None: ""}[expert.supported]
    formats = [name for name in (expert.dtype, expert.quantization) if name]
    known = (
        ("chat", expert.chat_template),
        ("images", expert.sees_images or None),
        ("drafts", expert.drafts),
    )
    able = [name if value else f"no {name}" for name, value in known if value is not None]
    details = " · ".join([*formats, *able])
    lines = [f"[bold]{escape(expert.expert_id)}[/]", f"  [dim]{escape(expert.source)}[/]"]
    if expert.architecture:
        lines.append(f"  {mark}{escape(expert.architecture)}")
    return "\n".join([*lines, f"  [dim]{escape(details)}[/]"] if details else lines)


def _weights(expert: ExpertFacts) -> str:
    if expert.weights_bytes is None:
        return "?"
    about = "~" if expert.weights_estimated else ""
    size, count = expert.weights_bytes, expert.parameters
    decimal = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
    if count is None:
        return f"{about}{decimal}"
    short = f"{count / 1e9:.1f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"
    return f"{about}{decimal}\n[dim]{short} param.[/]"


def _context(expert: ExpertFacts) -> str:
    longest, asked = expert.largest_model_len, expert.max_model_len
    shown = _number(asked)
    if longest is None:
        return shown
    color = "red" if asked is not None and asked > longest else "dim"
    together = (
        "" if not expert.sequences_at_limit else f"\n[dim]{expert.sequences_at_limit} at once[/]"
    )
    return f"{shown}\n[{color}]fits {longest:,}[/]{together}"


def plan_view(plan: MemoryPlan, experts: dict[str, ExpertFacts]) -> Group:
    """Return the memory as a bar, and who is in it when."""
    fits = {True: "[green]fits[/]", False: "[red]does not fit[/]", None: "[yellow]unknown[/]"}
    share = plan.worst_bytes / plan.memory_bytes
    used = min(round(share * BAR_CELLS), BAR_CELLS)
    limit = min(round(plan.budget_bytes / plan.memory_bytes * BAR_CELLS), BAR_CELLS)
    color = "red" if plan.fits is False else "green"
    bar = Text("█" * used, style=color) + Text("░" * max(limit - used, 0), style="dim")
    bar += Text("╎" + "·" * max(BAR_CELLS - max(limit, used), 0), style="dim")
    bar += Text(f" {gib(plan.worst_bytes)} of {gib(plan.budget_bytes)}")
    rows = Table(box=None, pad_edge=False, show_header=False)
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    rows.add_row("kept", _named(plan.kept, experts) or "none")
    if plan.swapped:
        left = max(plan.loaded_at_most - len(plan.kept), 0)
        places = f"{left} place{'' if left == 1 else 's'}"
        rows.add_row("take turns", f"{_named(plan.swapped, experts)}  [dim]({places})[/]")
    rows.add_row(
        "at most",
        f"{plan.loaded_at_most} loaded, largest set {gib(plan.worst_bytes)}: {fits[plan.fits]}",
    )
    rows.add_row("all at once", f"{gib(plan.all_bytes)}: {fits[plan.all_fit]}")
    if plan.unknown:
        rows.add_row("size unknown", escape(", ".join(plan.unknown)))
    title = Text("memory", style="bold")
    title += Text(f"  {gib(plan.memory_bytes)}, of which {gib(plan.budget_bytes)} may be used")
    return Group(title, bar, rows)


def _named(names: tuple[str, ...], experts: dict[str, ExpertFacts]) -> str:
    def one(name: str) -> str:
        size = experts[name].memory_bytes
        return escape(name) + ("" if size is None else f" [dim]{gib(size)}[/]")

    return ", ".join(one(name) for name in names)


def finding_view(finding: Finding) -> Group:
    """Return where, what stands there, why it matters, and what to write."""
    color, mark = MARKS[finding.severity]
    value = f" = {finding.value}" if finding.value else ""
    head = f"[{color}]{mark}[/] [bold]{escape(finding.where)}[/]{escape(value)}"
    lines: list[RenderableType] = [Text.from_markup(head), Padding(Text(finding.why), (0, 0, 0, 2))]
    if finding.change:
        change = Text("→ ", style=color) + Text(finding.change)
        lines.append(Padding(change, (0, 0, 0, 2)))
    return Group(*lines)


def verdict(report: Examination, *, strict: bool) -> str:
    """Return the last line."""
    errors, warnings = report.count("error"), report.count("warning")
    counts = f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning"
    counts += "" if warnings == 1 else "s"
    if errors or (strict and warnings):
        return f"[red]✗[/] {counts}"
    return f"[yellow]![/] {counts}" if warnings else f"[green]✓[/] {counts}: good to serve"


def _kib(size: int | None) -> str:
    return "?" if size is None else f"{size / 1024:.4g} KiB"


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
