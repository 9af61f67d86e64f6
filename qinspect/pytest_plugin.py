"""The fixture ``qinspect_gate`` of pytest: a test that fails unless a new model is not worse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qinspect.gating import Gate


@pytest.fixture
def qinspect_gate() -> Callable[..., Gate]:
    """``qinspect_gate(old, new, data, margin=1)``: as :func:`qinspect.gate`, or the test fails."""

    def check(*given: Any, **options: Any) -> Gate:
        # Here, so that pytest starts as fast as without.
        from qinspect.gating import gate

        found = gate(*given, **options)
        if found.code:
            pytest.fail(found.sentence, pytrace=False)
        return found

    return check
