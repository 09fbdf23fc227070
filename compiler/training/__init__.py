"""Fine-tuning of compressed models with torch (extra ``train``): codebooks, signs and scales learn from a loss.

In one call the linear, convolution and attention layers of a torch model, or the weights of any graph a front end
reads, become functions of what is trained; afterwards they give back encoded layers, or a packed model for ``accel
compile``::

    from accel.codecs import parse_codec
    from accel.packed import write_packed
    from compiler.frontend import load_model
    from compiler.training import *

    loaded = load_model("deit_tiny")
    model = GraphModule(loaded.graph, loaded.weights)                     # or an nn.Module of yours
    compress_modules(model, lambda name, shape: parse_codec("ssvq:k=16,d=8"), WeightOptions(), seed=0)
    data = TrainingData({"input": pictures[:, None]}, labels)             # of a graph: samples in front of its shape
    train(model, data, LOSSES["cross_entropy"], TrainingOptions(epochs=3))
    packed = export_graph(model, loaded.weights).packed                   # or export_module(model, example_inputs)
    write_packed(packed, Path("net.vq.safetensors"))

- ``compress_modules`` (``modules``): codecs in, weights start as ``compiler.compress.compress_layer`` codes them.
  ``WeightOptions``: gradient of codebooks (``sum``, ``mean``), signs (``learned``, ``fixed``), ``Freezing`` or None.
- ``encoded_layers``: what is stored now; its decode times scale is bit for bit what the layers compute with.
- ``train`` (``loop``): deterministic; ``Checkpointing`` lets a killed run go on to the same result. One epoch is
  ``TrainingOptions(epochs=1)``; ``stop_after`` ends a run after a step, ``resume`` goes on.
- ``LOSSES``: ``cross_entropy`` with labels; ``mse``, ``cosine``, ``kl`` towards ``outputs_of`` the float model.
  ``Imitation`` adds what is inside it, ``inner_tensors``: a graph of many layers and few bits needs that.
- ``finetune``: all of it for a graph, with scores before and after: what ``accel finetune`` calls.
- ``accuracy``, ``mean_loss``, ``outputs_of`` (``data``): evaluation.

Assignments of vectors to codewords and the masks of MVQ are decided by clustering and stay; codewords, projections,
scales and latent signs learn, and with them everything that is not compressed.
"""

from __future__ import annotations

from accel.errors import ConfigError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ConfigError("training needs torch, a build for CPUs will do: pip install 'accel-codesign[train]'") from error

from compiler.training.checkpoint import check_no_checkpoint, holds_checkpoint, read_checkpoint, write_checkpoint
from compiler.training.coded import CodedWeight
from compiler.training.data import Samples, TrainingData, accuracy, mean_loss, outputs_of
from compiler.training.export import export_graph, export_module
from compiler.training.finetune import FineTuning, Recipe, Score, finetune
from compiler.training.graph_module import GraphModule
from compiler.training.imitation import Imitation, inner_tensors
from compiler.training.log import CsvLog, StepRow, TensorBoardLog
from compiler.training.loop import Checkpointing, Log, make_optimiser, train
from compiler.training.losses import LOSSES, find_loss
from compiler.training.modules import coded_weights, compress_modules, encoded_layers, frozen_share
from compiler.training.options import Freezing, TrainingOptions, WeightOptions

__all__ = [
    "LOSSES",
    "Checkpointing",
    "CodedWeight",
    "CsvLog",
    "FineTuning",
    "Freezing",
    "GraphModule",
    "Imitation",
    "Log",
    "Recipe",
    "Samples",
    "Score",
    "StepRow",
    "TensorBoardLog",
    "TrainingData",
    "TrainingOptions",
    "WeightOptions",
    "accuracy",
    "check_no_checkpoint",
    "coded_weights",
    "compress_modules",
    "encoded_layers",
    "export_graph",
    "export_module",
    "find_loss",
    "finetune",
    "frozen_share",
    "holds_checkpoint",
    "inner_tensors",
    "make_optimiser",
    "mean_loss",
    "outputs_of",
    "read_checkpoint",
    "train",
    "write_checkpoint",
]
