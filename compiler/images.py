"""Images as the window walker sees them: NHWC rows, channels dense."""

from __future__ import annotations

from accel.graph import Op
from compiler.lowering import Lowering
from compiler.steps import VectorStep, Window
from compiler.views import View, dense_strides, select, transpose


def conv_window(op: Op) -> Window:
    """The window of a convolution or pooling operator."""
    top, left, _, _ = op.attributes["padding"]
    kernel, stride = tuple(op.attributes["kernel"]), tuple(op.attributes["stride"])
    return Window(kernel, stride, tuple(op.attributes.get("dilation", (1, 1))), top, left)


def is_image(view: View) -> bool:
    """Whether an NCHW view lies as NHWC rows the window walker can follow (channels dense, rows contiguous)."""
    _, channels, _, width = view.shape
    _, c, h, w = view.strides
    return (channels == 1 or c == 1) and (view.shape[2] == 1 or h == w * width)


def as_image(state: Lowering, view: View, layer: int) -> View:
    """``view`` if it is an image already, else an NHWC copy."""
    if is_image(view):
        return view
    buffer = state.new_buffer(f"{view.buffer}/image", view.elements)
    out = View(buffer, 0, view.shape, dense_strides(view.shape, (0, 2, 3, 1)))
    state.steps.append(VectorStep(layer, "copy", view, out))
    return out


def hwc(view: View, image: int) -> View:
    """One image of an NCHW view as ``[H, W, C]``."""
    return transpose(select(view, (image,)), (1, 2, 0))
