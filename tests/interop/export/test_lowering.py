"""Opset 18 as 17: what is rewritten computes the same, what cannot be is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from slim_fast.errors import UserError
from slim_fast.interop.export.lowering import lower_to_17

FLOAT = TensorProto.FLOAT


def program(*nodes: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None):
    """A model of opset 18 from x (2, 4) to y."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["a", "b"])],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("kind", ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceL2"])
@pytest.mark.parametrize("how", ["initializer", "constant", "all axes"])
def test_axes_become_attributes(kind: str, how: str) -> None:
    axes, inputs = np.array([1]), ["x"] if how == "all axes" else ["x", "axes"]
    node = helper.make_node(kind, inputs, ["y"], keepdims=1, noop_with_empty_axes=0)
    if how == "constant":
        constant = helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(axes))
        model = program(constant, node)
    else:
        model = program(node, constants={"axes": axes} if len(inputs) > 1 else {})
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    want = run(model, x)
    lower_to_17(model)
    assert model.opset_import[0].version == 17
    np.testing.assert_array_equal(run(model, x), want)
    assert not model.graph.initializer


def test_equal_parts_are_split_alike() -> None:
    split = helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2)
    model = program(split, helper.make_node("Sub", ["a", "b"], ["y"]))
    x = np.arange(8, dtype=np.float32).reshape(2, 4) ** 2
    want = run(model, x)
    lower_to_17(model)
    np.testing.assert_array_equal(run(model, x), want)


def test_what_17_cannot_say_is_refused() -> None:
    shape = helper.make_node("Shape", ["x"], ["s"])
    for nodes in (
        (shape, helper.make_node("ReduceMax", ["x", "s"], ["y"])),
        (helper.make_node("Mish", ["x"], ["y"]),),
    ):
        with pytest.raises(UserError, match="choose opset 18 or newer"):
            lower_to_17(program(*nodes))
