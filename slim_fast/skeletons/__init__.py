"""Skeleton topologies: joints, parents, mirror pairs and parts as data."""

from slim_fast.skeletons.registry import get_topology, register_topology, topology_names
from slim_fast.skeletons.topology import Topology

__all__ = ["Topology", "get_topology", "register_topology", "topology_names"]
