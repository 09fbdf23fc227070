"""Core ML Tools: what its palettes make of a network's weights, in the file it writes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.children import Bill, run
from benchmarks.peers_environments import Say, environment

_COREML = """
import json, logging, sys
from pathlib import Path
logging.disable(logging.WARNING)
import numpy as np
import coremltools as ct
from coremltools.converters.mil import Builder as mb
from coremltools.optimize.coreml import OptimizationConfig, OpPalettizerConfig, palettize_weights

arrays, bits, folder = dict(np.load(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
width = max(arrays[name].shape[1] for name in arrays)

@mb.program(input_specs=[mb.TensorSpec(shape=(1, width))], opset_version=ct.target.iOS18)
def layers(x):
    cut = {size: mb.slice_by_size(x=x, begin=[0, 0], size=[1, size]) for size in {arrays[n].shape[1] for n in arrays}}
    return tuple(mb.linear(x=cut[arrays[name].shape[1]], weight=arrays[name]) for name in arrays)

model = ct.convert(layers, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
settings = OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=0)
palettised = palettize_weights(model, OptimizationConfig(global_config=settings))
palettised.save(f"{folder}/net.mlpackage")
(weights,) = Path(folder).rglob("weight.bin")
print(json.dumps(weights.stat().st_size))
"""


@dataclass(frozen=True, slots=True)
class Palettised:
    """Size of the file of weights, and what making it cost."""

    stored_bytes: int
    bill: Bill


def palettised(weights: Mapping[str, npt.NDArray[np.float32]], bits: int, say: Say) -> Palettised:
    """Each matrix ``[out, in]`` with a palette of ``2**bits`` float16 values, as Core ML Tools does it by default."""
    python = environment("coreml", say)
    with tempfile.TemporaryDirectory(prefix="coreml-") as name:
        arrays = Path(name, "weights.npz")
        np.savez(arrays, **weights)
        bill = run([python, "-c", _COREML, arrays, str(bits), name])
    return Palettised(json.loads(bill.lines[-1]), bill)
