"""What lowering produces: buffers, and steps that read and write strided views of them. All frozen.

A step is what one visit of the array, the vector unit or the gather engine does for one layer. Steps can be cut into
parts along their rows (``compiler.split``); the parts are steps too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from accel.program import Layer
from compiler.views import View

Home = Literal["input", "output", "constant", "activation"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """``size_bytes`` of storage. Inputs, outputs and constants live in DRAM; activations in SRAM unless spilled."""

    name: str
    size_bytes: int
    home: Home = "activation"


@dataclass(frozen=True, slots=True)
class Window:
    """An im2col or pooling window over an NHWC image; the fields of GMC and VWN (see ``accel.isa``)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0
    channel_major: bool = False


@dataclass(frozen=True, slots=True)
class OutputStage:
    """What happens to the sums of a product, by names of graph tensors: times ``gain`` and the constants
    ``column_gains`` (one a column) they are ``before``; ``function`` (of ``op``'s attributes ``low`` and ``high``, for
    clip) and ``gain_after`` make ``result`` of it. Without function both are one tensor.

    ``operands`` are the tensors multiplied; ``normalised``: sums are divided by the sum of their row of the first.
    """

    operands: tuple[str, ...]
    result: str
    before: str
    function: str = ""
    bounds: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    gain_after: float = 1.0
    column_gains: tuple[str, ...] = ()
    normalised: bool = False


@dataclass(frozen=True, slots=True)
class GemmStep:
    """Moving operand ``a[H, W, C]`` times the weights of ``weight``, through ``window``, to ``out[OH, OW, N]``.

    ``bias`` names the constant added to the sums before the output ``stage``. ``out`` holds the output channels from
    ``first_column`` on: fewer than all when the step is cut along its columns.
    """

    layer: int
    a: View
    out: View
    window: Window
    weight: str
    groups: int
    bias: str
    stage: OutputStage
    first_column: int = 0

    @property
    def result(self) -> str:
        """Name of the graph tensor it makes."""
        return self.stage.result

    @property
    def reads(self) -> tuple[View, ...]:
        """Views this step reads."""
        return (self.a,)

    @property
    def writes(self) -> View:
        """The view this step writes."""
        return self.out


@dataclass(frozen=True, slots=True)
class ProductStep:
    """``a[M, K]`` times ``b`` (``[K, N]``, or ``[N, K]`` when ``transpose_b``), both activations, to ``out[M, N]``."""

    layer: int
    a: View
    b: View
    out: View
    transpose_b: bool
    stage: OutputStage

    @property
    def result(self) -> str:
        """Name of the graph tensor it makes."""
        return self.stage.result

    @property
    def reads(self) -> tuple[View, ...]:
        """Views this step reads."""
        return (self.a, self.b)

    @property
    def writes(self) -> View:
        """The view this step writes."""
        return self.out


@dataclass(frozen=True, slots=True)
class Resizing:
    """Rows of the whole images, and where a part begins in them."""

    in_height: int
    out_height: int
    in_row: int = 0
    out_row: int = 0


@dataclass(frozen=True, slots=True)
class VectorStep:
    """One vector function or element-wise operator. Element-wise: ``a``, ``b`` and ``out`` have one shape. Row-wise
    (softmax, layernorm): rows along all axes but the last. Windowed: ``a[H, W, C]`` to ``out[OH, OW, C]``. ``mean``:
    ``a[R, C]`` to ``out[C]``.

    ``result`` names the graph tensor made, and so the operator whose operands ``a`` and ``b`` are; moves of bytes have
    none. ``exponents``: some operand's channels, its last axis, have exponents; those of a mean, which may be cut along
    its columns, begin with channel ``first_channel``. ``out`` may be ``a`` (in place).
    """

    layer: int
    function: str
    a: View
    out: View
    b: View | None = None
    window: Window | None = None
    resizing: Resizing | None = None
    result: str = ""
    exponents: bool = False
    first_channel: int = 0

    @property
    def reads(self) -> tuple[View, ...]:
        """Views this step reads."""
        if self.function == "fill":
            return ()
        return (self.a,) if self.b is None else (self.a, self.b)

    @property
    def writes(self) -> View:
        """The view this step writes."""
        return self.out


@dataclass(frozen=True, slots=True)
class GatherStep:
    """Rows of the constant ``table`` (``row_bytes`` each) picked by int32 ``ids[T, 4 bytes]``, to ``out[T, D]``."""

    layer: int
    ids: View
    table: str
    row_bytes: int
    out: View
    result: str = ""

    @property
    def reads(self) -> tuple[View, ...]:
        """Views this step reads."""
        return (self.ids,)

    @property
    def writes(self) -> View:
        """The view this step writes."""
        return self.out


Step = GemmStep | ProductStep | VectorStep | GatherStep


@dataclass(frozen=True, slots=True)
class Lowered:
    """A lowered network: steps in execution order over buffers, the layer map, the views of inputs, outputs
    and all tensors that lie somewhere as a whole, and the output stage of every product by the tensor it would make.

    A constant buffer is named after the graph parameter it holds.
    """

    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    layers: tuple[Layer, ...]
    inputs: Mapping[str, View]
    outputs: Mapping[str, View]
    tensors: Mapping[str, View]
    stages: Mapping[str, OutputStage]


@dataclass(frozen=True, slots=True)
class Visit:
    """Steps executed one after another that share one layer and, for GEMMs, one weight stream."""

    parts: tuple[Step, ...]

    @property
    def step(self) -> Step:
        """The first part; layer, function and weight are the same for all."""
        return self.parts[0]
