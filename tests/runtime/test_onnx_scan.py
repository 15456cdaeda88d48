"""Tensors outside of an ONNX file are found wherever they hide, and what is no such file is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from differnet.runtime.onnx_scan import ScanError, external_tensors


def tensor(name: str, *, elsewhere: bool) -> TensorProto:
    made = helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])
    if elsewhere:
        made.ClearField("float_data")
        made.data_location = TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = "location", "../../etc/passwd"
    return made


def graph_of(*tensors: TensorProto, nodes: tuple[NodeProto, ...] = ()) -> GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(tensors))


def in_initializer(one: TensorProto) -> ModelProto:
    return helper.make_model(graph_of(tensor("plain", elsewhere=False), one))


def in_constant(one: TensorProto) -> ModelProto:
    return helper.make_model(graph_of(nodes=(helper.make_node("Constant", [], ["c"], value=one),)))


def in_branch(one: TensorProto) -> ModelProto:
    empty = graph_of()
    node = helper.make_node("If", ["x"], ["y"], then_branch=graph_of(one), else_branch=empty)
    inner = helper.make_node("If", ["x"], ["y"], then_branch=graph_of(nodes=(node,)), else_branch=empty)
    return helper.make_model(graph_of(nodes=(inner,)))


def in_sparse(one: TensorProto) -> ModelProto:
    sparse = SparseTensorProto()
    sparse.values.CopyFrom(one)
    model = in_initializer(tensor("plain", elsewhere=False))
    model.graph.sparse_initializer.append(sparse)
    return model


def in_list(one: TensorProto) -> ModelProto:
    attribute = AttributeProto(name="many", type=AttributeProto.TENSORS, tensors=[one])
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(attribute)
    return helper.make_model(graph_of(nodes=(node,)))


def in_function(one: TensorProto) -> ModelProto:
    node = helper.make_node("Constant", [], ["c"], value=one)
    made = helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 17)])
    return helper.make_model(graph_of(), functions=[made])


def in_training(one: TensorProto) -> ModelProto:
    model = in_initializer(tensor("plain", elsewhere=False))
    model.training_info.add().initialization.CopyFrom(graph_of(one))
    return model


PLACES = (in_initializer, in_constant, in_branch, in_sparse, in_list, in_function, in_training)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_found_wherever_it_hides(place: Callable[[TensorProto], ModelProto]) -> None:
    assert external_tensors(place(tensor("away", elsewhere=True)).SerializeToString()) == ["away"]
    assert external_tensors(place(tensor("here", elsewhere=False)).SerializeToString()) == []


def test_data_that_is_named_elsewhere_but_not_said_to_lie_there_counts() -> None:
    one = tensor("odd", elsewhere=True)
    one.data_location = TensorProto.DEFAULT
    assert external_tensors(in_initializer(one).SerializeToString()) == ["odd"]


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"\x3a\x05ab", b"\x0f\x00", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
    ids=["a number that does not end", "a field beyond the file", "an unknown wire type", "a vast length"],
)
def test_what_is_no_protocol_buffer_is_refused(content: bytes) -> None:
    with pytest.raises(ScanError):
        external_tensors(content)


def test_a_graph_nested_beyond_all_graphs_is_refused() -> None:
    graph = graph_of(tensor("away", elsewhere=True))
    for _ in range(20):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph)
        graph = graph_of(nodes=(node,))
    with pytest.raises(ScanError, match="nested"):
        external_tensors(helper.make_model(graph).SerializeToString())


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_or_refused(content: bytes) -> None:
    try:
        found = external_tensors(content)
    except ScanError:
        return
    assert all(isinstance(name, str) for name in found)
