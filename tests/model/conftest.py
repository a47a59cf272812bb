"""Steps of random views."""

from collections.abc import Callable

import pytest
import torch

from slim_fast.views.pipeline import ViewBatch, ViewGroup

MakeViews = Callable[..., ViewBatch]


@pytest.fixture
def make_views() -> MakeViews:
    def make(
        batch: int = 3,
        joints: int = 5,
        windows: dict[int, int] | None = None,
        masked: float = 0.5,
        dtype: torch.dtype = torch.float32,
    ) -> ViewBatch:
        """Random coordinates; windows: frames -> views. The share `masked` of the globals and all
        locals are masked.
        """
        windows = windows or {64: 2, 32: 2, 16: 4, 8: 2}
        groups = []
        for number, (window, count) in enumerate(windows.items()):
            mask = torch.rand(batch, count, window // 8, joints) < 0.6
            if not number:
                mask &= (torch.randperm(batch * count) < round(masked * batch * count)).view(
                    batch, count, 1, 1
                )
            groups.append(
                ViewGroup(window, torch.randn(batch, count, window, joints, 3, dtype=dtype), mask)
            )
        return ViewBatch(groups, torch.arange(batch), 0)

    return make
