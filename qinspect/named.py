"""An object of the user's own code by its name, ``module:name``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from qinspect.errors import SpecError


def named_object(name: str) -> Any:
    """What ``module:name`` names; modules beside the working folder are found as well."""
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(f"{name} cannot be found ({error}); write module:name of something in the "
                        "working folder or installed.") from None
    finally:
        if added:
            sys.path.remove(here)
    return found
