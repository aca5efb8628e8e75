"""What tests of frames share."""

from __future__ import annotations

import pytest

from .frame_libraries import LIBRARIES, FrameKit


@pytest.fixture(params=LIBRARIES, ids=repr)
def kit(request: pytest.FixtureRequest) -> FrameKit:
    """Each dataframe library in turn."""
    kit: FrameKit = request.param
    return kit
