"""Amounts are written as the API server writes them."""

from __future__ import annotations

import pytest
from support.quantity_pairs import PAIRS

from chatoperator.manifests.quantities import canonical


@pytest.mark.parametrize(("given", "kept"), PAIRS)
def test_an_amount_is_written_as_it_is_kept(given: str | int, kept: str) -> None:
    assert canonical(given) == kept
    assert canonical(kept) == kept
