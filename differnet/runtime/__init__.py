"""What runs a fitted detector: torch, or the fastest runtime that it was exported to.

Names are loaded when they are first used: inspecting with an exported model needs no torch.
`differnet.runtime.export.export` makes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from differnet.runtime.engines import ENGINES, RuntimeMissingError, installed_runtimes
    from differnet.runtime.export import ExportError
    from differnet.runtime.exported import (
        RUNTIMES,
        Export,
        ExportedDetector,
        choose_runtime,
        exports_in,
        load_fastest,
        outdated_exports,
    )
    from differnet.runtime.quickened import quick_maps

_HOMES = {
    "engines": ("ENGINES", "RuntimeMissingError", "installed_runtimes"),
    "export": ("ExportError",),
    "exported": (
        *("RUNTIMES", "Export", "ExportedDetector"),
        *("choose_runtime", "exports_in", "load_fastest", "outdated_exports"),
    ),
    "quickened": ("quick_maps",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ENGINES",
    "RUNTIMES",
    "Export",
    "ExportError",
    "ExportedDetector",
    "RuntimeMissingError",
    "choose_runtime",
    "exports_in",
    "installed_runtimes",
    "load_fastest",
    "outdated_exports",
    "quick_maps",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'differnet.runtime' has no attribute {name!r}")
    return getattr(import_module(f"differnet.runtime.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
