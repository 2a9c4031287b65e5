from __future__ import annotations

from collections.abc import Iterator

import pytest

from zygote import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Return the warm process that children are forked from."""
    with Zygote() as started:
        yield started
