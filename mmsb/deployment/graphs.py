"""Smaller ONNX graphs: sizes computed once from the image, equal nodes merged.

A traced network asks every feature map for its size. In a dynamic file each question is a node,
and so is all arithmetic on its answer. Runtimes then run hundreds of tiny nodes, and ONNX Runtime
fuses less: whoever asks a feature map between a convolution and its ReLU keeps them apart.
"""

from __future__ import annotations

# A length in pixels: an axis of the image, or (length, summand, stride) for
# (length + summand) // stride.
Length = int | tuple['Length', int, int]

POINTWISE = {'BatchNormalization', 'Cast', 'Clip', 'Identity', 'LeakyRelu', 'Relu', 'Sigmoid'}
JOINS = {'Add', 'Mul', 'Sub', 'Sum'}
WINDOWS = {'AveragePool', 'Conv', 'MaxPool'}


def simplify(graph) -> None:
    """Compute sizes of feature maps from the image's size, merge equal nodes, drop unused ones.

    The outputs do not change. Graphs with control flow are left as they are.

    Args:
        graph: The ``onnx.GraphProto`` of a network whose first input is the image, (B, C, H, W);
            changed in place.
    """
    if any(attribute.HasField('g') for node in graph.node for attribute in node.attribute):
        return
    _derive_sizes(graph)
    _merge_equal_nodes(graph)
    _drop_unused_nodes(graph)


def _derive_sizes(graph) -> None:
    from onnx import helper, numpy_helper

    image = graph.input[0].name
    lengths: dict[str, tuple[Length, Length]] = {image: (2, 3)}  # by tensor: height and width
    asked: dict[str, str] = {}  # by output of a Shape node: its input
    constants: dict[str, int] = {}
    names: dict[Length, str] = {}  # of the scalars that hold these lengths
    before, renamed = [], {}

    def emit(op: str, *inputs: str, **attributes) -> str:
        output = f'size_{len(before)}'
        before.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def scalar(value: int) -> str:
        return emit('Constant', value=helper.make_tensor('value', 7, [], [value]))  # 7: int64

    def name_of(length: Length) -> str:
        if length not in names:
            if isinstance(length, int):
                names[length] = emit('Gather', emit('Shape', image), scalar(length), axis=0)
            else:
                base, summand, stride = length
                name = emit('Add', name_of(base), scalar(summand))
                names[length] = name if stride == 1 else emit('Div', name, scalar(stride))
        return names[length]

    for node in graph.node:
        given = [lengths.get(name) for name in node.input]
        output = node.output[0]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        known = bool(given) and given[0] is not None
        if node.op_type == 'Constant' and 'value' in attributes:
            value = numpy_helper.to_array(attributes['value'])
            if value.size == 1 and value.dtype.kind == 'i':
                constants[output] = int(value.reshape(()))
        elif node.op_type == 'Shape' and known and not attributes:
            asked[output] = node.input[0]
        elif node.op_type == 'Gather' and node.input[0] in asked and not attributes.get('axis'):
            axis = constants.get(node.input[1])
            if axis in (2, 3):
                renamed[output] = name_of(lengths[asked[node.input[0]]][axis - 2])
        elif node.op_type in POINTWISE and known:
            lengths[output] = given[0]
        elif node.op_type in JOINS and known and all(pair == given[0] for pair in given):
            lengths[output] = given[0]  # equal sizes: nothing is broadcast
        elif node.op_type == 'Concat' and attributes['axis'] == 1 and any(given):
            lengths[output] = next(filter(None, given))
        elif node.op_type in WINDOWS and known and (found := _after_window(given[0], attributes)):
            lengths[output] = found
    nodes = [node for node in graph.node if node.output[0] not in renamed]
    _replace_nodes(graph, [*before, *nodes], renamed)


def _after_window(given: tuple[Length, Length], attributes: dict) -> tuple[Length, Length] | None:
    """Return height and width after a convolution or pooling; None if its rounding differs."""
    if attributes.get('ceil_mode') or attributes.get('auto_pad', b'NOTSET') != b'NOTSET':
        return None
    kernel, pads = attributes['kernel_shape'], attributes.get('pads', [0] * 4)
    strides, dilations = (attributes.get(key, [1, 1]) for key in ('strides', 'dilations'))
    found = []
    for axis, length in enumerate(given):
        stride = strides[axis]
        covered = dilations[axis] * (kernel[axis] - 1) + 1
        summand = pads[axis] + pads[axis + 2] - covered + stride
        found.append(length if (summand, stride) == (0, 1) else (length, summand, stride))
    return tuple(found)


def _merge_equal_nodes(graph) -> None:
    outputs = {output.name for output in graph.output}
    first, renamed, nodes = {}, {}, []
    for node in graph.node:
        inputs = tuple(renamed.get(name, name) for name in node.input)
        attributes = sorted(_content(attribute) for attribute in node.attribute)
        same = first.setdefault((node.domain, node.op_type, inputs, *attributes), node)
        if outputs.intersection(node.output) or len(node.output) > 1:
            nodes.append(node)
        elif node.op_type == 'Identity':
            renamed[node.output[0]] = inputs[0]
        elif same is node:
            nodes.append(node)
        else:
            renamed[node.output[0]] = same.output[0]
    _replace_nodes(graph, nodes, renamed)


def _content(attribute) -> bytes:
    """Return an attribute's serialized content, without the name that a tensor may have."""
    if attribute.t.name:
        copy = type(attribute)()
        copy.CopyFrom(attribute)
        copy.t.name = ''
        attribute = copy
    return attribute.SerializeToString(deterministic=True)


def _drop_unused_nodes(graph) -> None:
    used, nodes = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            nodes.append(node)
    _replace_nodes(graph, nodes[::-1], {})


def _replace_nodes(graph, nodes, renamed: dict[str, str]) -> None:
    copies = []
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
