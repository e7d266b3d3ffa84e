"""Exit with status 1 if the installed torch is a CUDA build. Does not import torch."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

spec = find_spec("torch")
if spec is None or spec.origin is None:
    sys.exit("torch is not installed")
if runpy.run_path(str(Path(spec.origin).with_name("version.py")))["cuda"] is not None:
    sys.exit(1)
