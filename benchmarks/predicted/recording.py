"""Which operations PyTorch dispatches, in which part of a step, and what each moves and does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

NOTHING = ""
FLASH = "_scaled_dot_product_flash_attention"
_FREE = ("empty", "new_empty", "_unsafe_view", "lift_fresh", "detach")
_LOOKUPS = ("index", "index_select", "gather", "take", "embedding")
_SCATTERS = ("index_put_", "_index_put_impl_", "index_add_", "scatter_", "scatter_add_")
_OVERWRITING = ("copy_", "fill_", "zero_", "normal_", "uniform_", "random_")
_READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2")
_SWEEPS = {"sort": 4}


@dataclass(frozen=True)
class Size:
    """What an operation of slim_kernels saw of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Operation:
    """One call of an operation."""

    part: str
    name: str
    """mm, or slim_kernels::norm_linear."""
    flops: float
    dtype: torch.dtype | None
    """Of a product's operands."""
    bytes: float
    arguments: tuple[Any, ...] = ()
    """Of slim_kernels' operations and attention, tensors as their Size."""
    results: tuple[Any, ...] = ()
    """The same."""
    reads: bool = False
    """Whether the host waits for its result."""


class Recorder(TorchDispatchMode):
    """Writes down what runs under it; views and allocations cost nothing and are left out.

    trues: what bool tensors without data hold: how many of so many numbers are True.
    """

    def __init__(self, trues: Mapping[int, int] | None = None) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._part, self._trues = "rest", dict(trues or {})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """While it is open, operations are of that part; of NOTHING: they are left out."""
        before, self._part = self._part, name
        try:
            yield
        finally:
            self._part = before

    def label(self, outputs: Iterable[Tensor], part: str) -> None:
        """The gradients of what led to these, and has no label yet, are of that part."""
        nodes: list[Any] = [output.grad_fn for output in outputs]
        while nodes:
            node = nodes.pop()
            if node is not None and "part" not in node.metadata:
                node.metadata["part"] = part
                nodes += [before for before, _ in node.next_functions]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # asks for a property
            return func(*args, **kwargs)
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        name = func._schema.name.removeprefix("aten::")
        result = self._run(name, func, args, kwargs)
        if func.is_view or name.startswith(_FREE) or self._part == NOTHING:
            return result
        node: Any = torch._C._current_autograd_node()
        part = self._part if node is None else node.metadata.get("part", self._part)
        moved, flops, dtype = bytes_moved(func, args, kwargs, result), 0.0, None
        if name.startswith(("slim_kernels::", FLASH)):
            sizes = _sizes(args), _sizes(tree_leaves(result))
            self.operations.append(Operation(part, name, 0, None, moved, *sizes))
        elif moved or name in _READS:
            if func._overloadpacket in flop_registry:
                flops = flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
                dtype = next(x for x in tree_leaves(args) if isinstance(x, Tensor)).dtype
            reads = name in _READS
            self.operations.append(Operation(part, name, flops, dtype, moved, reads=reads))
        return result

    def _run(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation's result; of tensors without data, whose values decide nothing else, with
        as many True as `trues` says.
        """
        if not isinstance(args[0] if args else None, FakeTensor):
            return func(*args, **kwargs)
        if name == "_local_scalar_dense":
            return True if args[0].dtype == torch.bool else 1
        if name == "nonzero":
            count = self._trues[args[0].numel()]
            return args[0].new_empty((count, args[0].dim()), dtype=torch.int64)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            indices = []
            for index in args[1]:
                if index is not None and index.dtype == torch.bool:
                    one = index.new_empty(self._trues[index.numel()], dtype=torch.int64)
                    indices += [one] * index.dim()
                else:
                    indices.append(index)
            args = (args[0], indices, *args[2:])
        return func(*args, **kwargs)


def _sizes(values: Any) -> tuple[Any, ...]:
    """Tensors as their Size."""
    return tuple(
        tree_map(lambda x: Size(tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x, values)
    )


def bytes_moved(func: Any, args: Any, kwargs: Any, result: Any) -> float:
    """Bytes that an operation reads and writes: each input and output once, of tables that it looks
    up in or scatters into only what it takes or puts.
    """
    name = func._schema.name.removeprefix("aten::")
    read: list[Tensor] = []
    written: list[Tensor] = []
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    for argument in func._schema.arguments:
        tensors = [x for x in tree_leaves(given.get(argument.name)) if isinstance(x, Tensor)]
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        written += tensors if is_written else []
        read += tensors if not is_written or not (argument.is_out or name in _OVERWRITING) else []
    in_place = {id(x) for x in written}
    written += [x for x in tree_leaves(result) if isinstance(x, Tensor) and id(x) not in in_place]
    if name in _LOOKUPS:
        return sum(map(_size, read[1:])) + 2 * sum(map(_size, written))
    if name in _SCATTERS:
        return sum(map(_size, read[1:])) + 2 * _size(read[-1])
    return _SWEEPS.get(name, 1) * sum(map(_size, [*read, *written]))


def _size(x: Tensor) -> int:
    """Bytes of the numbers that x shows; one that is repeated counts once."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride or not size else 1
    return count
