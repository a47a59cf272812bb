"""The Triton kernel makes the masks of the reference, cell by cell; on an emulated GPU too."""

import pytest
import torch
from slim_kernels.tube_masks import tube_masks
from slim_kernels.tube_masks.reference import reference
from torch import Tensor, library

pytest.importorskip("triton", reason="the kernel needs triton")
from slim_kernels.check.run import emulate

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, int]


def draw(sizes: list[int], rows: int, longest: int, seed: int) -> Arguments:
    generator = torch.Generator().manual_seed(seed)
    joints = sum(sizes)
    tokens = torch.randint(1, longest + 1, (rows,), generator=generator)
    budget = (tokens * joints * torch.rand(rows, generator=generator)).long()
    counts = torch.tensor(sizes, dtype=torch.float32)
    parts = torch.stack([counts, counts.cumsum(0) - counts], 1)
    columns = torch.randperm(joints, generator=generator)
    keys = torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator)
    return budget, tokens, tokens, keys, parts, columns, max(1, longest * joints // 2), longest


CASES = [([4, 6, 6, 4, 5], 8), ([1, 2, 1], 3), ([9, 30], 2)]


@pytest.mark.parametrize(("sizes", "longest"), CASES)
def test_the_kernel_masks_what_the_reference_masks(sizes, longest, monkeypatch):
    arguments = draw(sizes, 40, longest, longest)
    expected = reference(*arguments)
    assert expected.any()
    assert not expected.all()
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    assert torch.equal(tube_masks(*arguments), expected)


@pytest.mark.parametrize("capability", [80, 90])
def test_an_emulated_gpu_masks_the_same(capability):
    arguments = draw(CASES[0][0], 48, 8, capability)
    with emulate(capability) as gpu:
        masks = tube_masks(*arguments)
    assert [kernel.src.fn.__name__ for kernel in gpu.kernels] == ["tube_masks_kernel"]
    assert torch.equal(masks, reference(*arguments))


def test_masks_that_one_program_cannot_hold_take_the_reference(monkeypatch):
    arguments = draw([300, 200], 3, 20, 0)
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    with pytest.warns(UserWarning, match="more than 8192 cells"):
        masks = tube_masks(*arguments)
    assert torch.equal(masks, reference(*arguments))


def test_no_rows_and_no_data_give_their_shapes():
    arguments = draw([2, 3], 0, 4, 0)
    assert tube_masks(*arguments).shape == (0, 4, 5)
    library.opcheck(tube_masks, draw([2, 3], 4, 4, 0))
