"""Topologies by name: the shipped ones, and those registered by users.

Joint orders are those of the formats' own definitions. Not every format has a pelvis or a tree: coco-17 and
mediapipe-33 hang on the nose, with each hip below the shoulder of its side; openpose-18 hangs on the neck, with both
hips below it. Every tree is its own mirror image. Formats of pictures point y downwards (`up` is "-y").
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path

from slim_fast.errors import UserError
from slim_fast.skeletons.topology import Topology


def get_topology(name_or_path: str | Path) -> Topology:
    """The topology of that name, or the one a JSON file describes.

    Raises:
        UserError: neither a known name nor a readable topology file.
    """
    known = _registry()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    if str(name_or_path).endswith(".json"):
        return Topology.from_json(name_or_path)
    names = ", ".join(topology_names())
    raise UserError(f"There is no topology called {str(name_or_path)!r}; choose one of {names}, or give a .json file.")


def topology_names() -> tuple[str, ...]:
    """Names `get_topology` knows, sorted."""
    return tuple(sorted(_registry()))


def register_topology(topology: Topology) -> None:
    """Make a topology known by its name for the rest of this process.

    Raises:
        UserError: another topology already has that name.
    """
    if _registry().setdefault(topology.name, topology) != topology:
        raise UserError(f"Another topology is already called {topology.name!r}; give this one a name of its own.")


@cache
def _registry() -> dict[str, Topology]:
    folder = resources.files("slim_fast.skeletons").joinpath("topologies")
    files = [file for file in folder.iterdir() if file.name.endswith(".json")]
    shipped = [Topology.from_dict(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    return {topology.name: topology for topology in shipped}
