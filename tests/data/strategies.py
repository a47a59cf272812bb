"""What hypothesis draws for the readers: files, options, numbers and names of all kinds."""

import warnings
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

TOPOLOGIES = {
    joints: get_topology(name)
    for joints, name in ((17, "coco-17"), (20, "kinect-v1-20"), (25, "ntu-25"))
}


SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def told(path: Path, options: Options) -> None:
    """Converts, and fails for anything but success or a sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that overflow; files are closed by the collector
        try:
            convert(path, path.parent / "out", options, overwrite=True)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 (many are fine)


@st.composite
def options(draw: st.DrawFn, joints: int, numbers: int) -> Options:
    """Mostly such as fit."""
    topology = draw(st.sampled_from([*[TOPOLOGIES[joints]] * 4, None, *TOPOLOGIES.values()]))
    fitting = {2: ["xy"], 3: ["xyz", "xyc"], 4: ["xyzc"]}.get(numbers, [None])
    channels = draw(st.sampled_from([None, None, *fitting, *fitting, "xy", "xyz"]))
    return Options(topology, channels, labels_from=draw(st.sampled_from([0, 0, 1])))
