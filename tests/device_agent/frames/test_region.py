"""The part of a frame that is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, SourceEnded
from device_agent.frames.child import deliver
from device_agent.frames.region import Region, parse_region

WRONG = ("", "1,2", "a,b,c,d", "0,0,1.1,1", "0.5,0,0.6,1", "0,0,0,1", "-0.1,0,0.5,1", "nan,0,1,1")


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_region_is_said(text: str) -> None:
    with pytest.raises(BadInput, match="must be left,top,width,height in shares of the frame"):
        parse_region(text)


@given(
    st.tuples(*[st.floats(0, 0.999)] * 2, *[st.floats(1e-6, 1)] * 2),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_it_is_never_empty_and_never_leaves_the_frame(shares, height, width) -> None:
    left, top = shares[:2]
    region = Region(left, top, min(shares[2], 1 - left), min(shares[3], 1 - top))
    cut = region.cut(np.zeros((height, width, 3), np.uint8))
    assert 1 <= cut.shape[0] <= height and 1 <= cut.shape[1] <= width


def test_the_model_sees_the_region_alone() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:20, 30:45] = 200

    class Still:
        live, fps, count = False, None, 0

        def read(self) -> Frame:
            self.count += 1
            if self.count > 1:
                raise SourceEnded
            return Frame(picture, 0, 0)

        def close(self) -> None: ...

    seen: list[Frame] = []
    with pytest.raises(SourceEnded):
        deliver(
            Still(), InputSpec(height=8, width=8), seen.append, asked=lambda: None, region=Region(0.5, 0.25, 0.25, 0.25)
        )
    assert (seen[0].image == 200).all()
