"""The tool's own files are imported by their bare names, as they are when it runs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # behind all others: they must not hide a module of someone else
