"""Import of packages that only some encoders need. Nothing here imports torch."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def imported(module: str, extra: str, what: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Dotted name of the module.
        extra: Extra of this package that installs it.
        what: What needs it, for the error.

    Raises:
        ValueError: The package is not installed, or cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about the package's own code
            return import_module(module)
    except ImportError as error:
        raise _missing(module, extra, what, str(error)) from error


def folder_of(module: str, extra: str, what: str) -> Path:
    """Folder of an optional package, which is not imported.

    Args:
        module: Name of the package.
        extra: Extra of this package that installs it.
        what: What needs it, for the error.

    Raises:
        ValueError: The package is not installed.
    """
    found = find_spec(module)
    if found is None or found.origin is None:
        raise _missing(module, extra, what, f"no package {module}")
    return Path(found.origin).parent


def _missing(module: str, extra: str, what: str, reason: str) -> ValueError:
    return ValueError(
        f"{what} must have the package {module.split('.')[0]}, got {reason.strip().splitlines()[0]}. "
        f"Install it: pip install 'amr-fusion[{extra}]'."
    )
