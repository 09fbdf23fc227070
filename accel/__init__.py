"""Accel: a co-design kit for neural networks whose weights are vector-quantised.

This package is the shared vocabulary (machine, instruction set, codecs, file formats, metrics). It imports
nothing of ``compiler``, ``sim`` or ``rtl``; only ``accel.cli`` does, and lazily.
"""

__version__ = "0.1.0"
