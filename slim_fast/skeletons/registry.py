"""Topologies by name: those of this package, and those registered by users.

Joints are in the order of each format's own definition. Not every format has a pelvis or a tree:
the root of coco-17 and mediapipe-33 is the nose, and the parent of each hip is the shoulder of its
side; the root of openpose-18 is the neck, the parent of both hips. Every tree is its own mirror
image. In formats of 2-D images y points down (`up` is "-y").
"""

import json
from functools import cache
from importlib import resources
from pathlib import Path

from slim_fast.errors import UserError, suggest
from slim_fast.skeletons.subsets import take_subset
from slim_fast.skeletons.topology import Topology


def get_topology(name_or_path: str | Path) -> Topology:
    """The topology of that name or JSON file, or of a part, "ntu-25/upper-body" (`take_subset`).

    Raises: UserError when there is none.
    """
    known = _registry()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    whole, _, subset = str(name_or_path).partition("/")
    if whole in known and subset:
        return take_subset(known[whole], subset)[0]
    if str(name_or_path).endswith(".json"):
        return Topology.from_json(name_or_path)
    names = ", ".join(topology_names())
    near = suggest(str(name_or_path), known)
    raise UserError(
        f"There is no topology called {str(name_or_path)!r}{near}; choose one of {names}, or give "
        "a .json file."
    )


def topology_names() -> tuple[str, ...]:
    """The names that `get_topology` knows, sorted."""
    return tuple(sorted(_registry()))


def register_topology(topology: Topology) -> None:
    """Let `get_topology` find a topology. Raises: UserError when its name is another's."""
    if _registry().setdefault(topology.name, topology) != topology:
        raise UserError(
            f"Another topology is already called {topology.name!r}; give this one a name of its "
            "own."
        )


@cache
def _registry() -> dict[str, Topology]:
    folder = resources.files("slim_fast.skeletons").joinpath("topologies")
    files = [file for file in folder.iterdir() if file.name.endswith(".json")]
    topologies = (Topology.from_dict(json.loads(file.read_text("utf-8"))) for file in files)
    return {topology.name: topology for topology in topologies}
