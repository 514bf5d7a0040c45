"""Where recorded inputs are."""

from pathlib import Path

APT = Path(__file__).resolve().parents[3] / "fixtures" / "apt"


def read_recorded(name: str) -> str:
    """The text of a file of fixtures/apt."""
    return (APT / name).read_text("utf-8")
