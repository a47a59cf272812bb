"""ONNX opset 18 as 17, for runtimes that know no newer one; ONNX's converter cannot go there."""

from typing import Any

from slim_fast.errors import UserError

# whose axes became an input in opset 18
REDUCTIONS = tuple(
    f"Reduce{kind}"
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
CHANGED = {
    *("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad", "Col2Im", "Mish"),
    *("OptionalGetElement", "OptionalHasElement", "Pad", "Resize", "ScatterElements", "ScatterND"),
}
"""Other operations that opset 18 has new or changed; our programs have none of them."""


def lower_to_17(model: Any) -> None:
    """Rewrite an onnx.ModelProto of opset 18 in place.

    Raises: UserError for an operation that cannot be rewritten.
    """
    import onnx

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        if node.op_type == "Split":  # without sizes, equal parts are as many as outputs
            _drop_attribute(node, "num_outputs")
        elif node.op_type in REDUCTIONS:
            _drop_attribute(node, "noop_with_empty_axes")
            if len(node.input) > 1:
                if node.input[1] not in constants:
                    raise UserError(f"{node.op_type} has computed axes: choose opset 18 or newer.")
                axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
                node.attribute.append(onnx.helper.make_attribute("axes", axes))
                del node.input[1]
        elif node.op_type in CHANGED:
            raise UserError(f"Opset 17 has no {node.op_type} of ours: choose opset 18 or newer.")
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    (version,) = [opset for opset in model.opset_import if not opset.domain]
    version.version = 17


def _drop_attribute(node: Any, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
