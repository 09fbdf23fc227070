"""From a model to a program: front ends, importers, compression, lowering, tiling, placement, scheduling, emission."""
