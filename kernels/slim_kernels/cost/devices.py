"""Published numbers of the devices for which a prediction is made."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A GPU; throughputs are of one SM and clock."""

    name: str
    capability: int
    """80 for 8.0."""
    sms: int
    ghz: float
    """The clock at which the published peaks hold."""
    tensor: dict[str, int]
    """Floating-point operations of dense products, accumulated in float32, by operands' type."""
    mma_share: float
    """What mma.sync reaches of that."""
    fma: int
    """Lanes for float32."""
    alu: int
    """Lanes for integers, logic, comparisons and conversions."""
    sfu: int
    """Lanes for exponentials, reciprocals and roots."""
    load_store: int
    """Lanes of load/store units, which shuffles use too."""
    l2: float
    """TB/s"""
    dram: float
    """TB/s"""
    shared: int
    """Bytes of shared memory of an SM."""
    warps: int
    """Warps of an SM at most."""
    blocks: int
    """Blocks of an SM at most."""


SCHEDULERS = 4
REGISTERS = 65_536
RESERVED_SHARED = 1024  # of each block, for the system
LAUNCH_MICROSECONDS = 2.0  # between dependent launches of one stream
PRODUCT_SHARE, COPY_SHARE = 0.8, 0.9  # of the peaks: 790 of 989 TFLOP/s, 4.3 of 4.8 TB/s (H200)

# SMs, clocks, tensor rates, lanes, DRAM: NVIDIA's white papers "A100 Tensor Core GPU Architecture",
# "H100 Tensor Core GPU Architecture", "Ada GPU Architecture" and the H200 data sheet; 1,024 fused
# multiply-adds of 16 bits a clock and SM on 8.0, 2,048 on 9.0, 256 on 8.9. Limits of an SM and
# lanes: CUDA C++ Programming Guide, "Compute Capabilities". L2: A100 5,120 bytes a clock (white
# paper); H100, H200 and RTX 4090 as microbenchmarks report it. mma.sync on 9.0: Luo et al.,
# "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture" (arXiv 2402.13499).
_HOPPER = dict(
    capability=90,
    sms=132,
    ghz=1.83,
    tensor={"bf16": 4096, "f16": 4096, "tf32": 2048},
    mma_share=0.62,
    fma=128,
    alu=64,
    sfu=16,
    load_store=32,
    l2=5.5,
    shared=228 * 1024,
    warps=64,
    blocks=32,
)
DEVICES = {
    device.name: device
    for device in (
        Device(
            "A100",
            capability=80,
            sms=108,
            ghz=1.41,
            tensor={"bf16": 2048, "f16": 2048, "tf32": 1024},
            mma_share=1.0,
            fma=64,
            alu=64,
            sfu=16,
            load_store=32,
            l2=7.2,
            dram=2.04,
            shared=164 * 1024,
            warps=64,
            blocks=32,
        ),
        Device("H100", dram=3.35, **_HOPPER),  # type: ignore[arg-type]
        Device("H200", dram=4.8, **_HOPPER),  # type: ignore[arg-type]
        Device(
            "RTX4090",
            capability=89,
            sms=128,
            ghz=2.52,
            tensor={"bf16": 512, "f16": 512, "tf32": 256},
            mma_share=1.0,
            fma=128,
            alu=64,
            sfu=16,
            load_store=16,
            l2=5.0,
            dram=1.01,
            shared=100 * 1024,
            warps=48,
            blocks=24,
        ),
    )
}
