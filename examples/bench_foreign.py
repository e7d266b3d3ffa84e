"""Time to first token of any OpenAI-compatible server, by the harness of this project.

python examples/bench_foreign.py URL MODEL [REPORT.json]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(url: str, model: str, report: Path) -> None:
    """Ask five pasted questions and print the quantiles of the wait."""
    command = [sys.executable, "-m", "livemind.benchmarks.cli", "ttft", "--base-url", url]
    options = ["--model", model, "--turns", "5", "--cadence", "paste", "--documents", "200"]
    subprocess.run([*command, *options, "--json", str(report)], check=True)
    for case in json.loads(report.read_text())["cases"]:
        for arm, figures in case["arms"].items():
            wait_ms = figures["ttft_ms"]
            print(f"{model}, arm {arm}: p50 {wait_ms['p50']:.1f} ms, p95 {wait_ms['p95']:.1f} ms")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv[3:] or [f"{folder}/report.json"]
        main(sys.argv[1], sys.argv[2], Path(given[0]))
