"""How figures look."""

from typing import Any


def style() -> dict[str, Any]:
    """Settings of matplotlib."""
    return {"savefig.dpi": 200}
