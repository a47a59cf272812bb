"""Which launches a device takes."""

import pytest
import torch

pytest.importorskip("triton", reason="launches are of Triton kernels")
from slim_kernels.check import DEVICES
from slim_kernels.runtime import target
from slim_kernels.runtime.launch import LAUNCHES, architecture, choose, float32_precision, launch

CUDA = torch.device("cuda")


@pytest.fixture
def pretend(monkeypatch):
    """A GPU of this compute capability under CUDA, or under ROCm."""

    def set_device(capability, hip=None):
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(target, "_of_device", target._of_device.__wrapped__)  # not its cache
        return architecture(CUDA)

    return set_device


@pytest.mark.parametrize("device", [d for d in DEVICES if isinstance(d, int)])
def test_a_device_takes_the_launches_it_is_checked_with(pretend, device):
    assert pretend(divmod(device, 10)) == DEVICES[device].entry


@pytest.mark.parametrize(
    ("capability", "entry"), [((8, 7), 86), ((10, 3), 100), ((11, 0), 86), ((12, 1), 86)]
)
def test_other_devices_take_those_of_the_nearest(pretend, capability, entry):
    assert pretend(capability) == entry


@pytest.mark.parametrize("capability", [(9, 4), (9, 0)])
def test_rocm_is_not_taken_for_cuda(pretend, capability):
    """An MI300 calls itself 9.4, an MI200 9.0: with CUDA that is an H100."""
    entry = pretend(capability, hip="6.4")
    assert entry == DEVICES["gfx942"].entry == DEVICES["gfx90a"].entry
    assert float32_precision(entry) == "ieee"
    assert float32_precision(90) == "tf32x3"


def test_without_a_gpu_the_oldest():
    assert architecture(torch.device("cpu")) == 80


def test_every_kernel_has_launches_for_every_device():
    entries = {device.entry for device in DEVICES.values()}
    assert {name: set(table) for name, table in LAUNCHES.items()} == dict.fromkeys(
        LAUNCHES, entries
    )


def test_every_launch_fuses_multiplication_and_addition():
    tile = launch("linear", torch.device("cpu"), 64)
    assert tile == choose(LAUNCHES["linear"][80], 64) | {"enable_fp_fusion": True}


def test_the_first_option_that_is_large_enough():
    options = [((32, 64), {"BM": 1}), ((64, 64), {"BM": 2})]
    assert choose(options, 32, 64) == {"BM": 1}
    assert choose(options, 33, 16) == {"BM": 2}
    assert choose(options, 1000, 16) == {"BM": 2}
