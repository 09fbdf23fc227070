"""Programs with real weight streams, packed here by a plain reading of the layout rules, tile by tile."""

import hashlib

import numpy as np
from strategies import random_codebook, random_projection

from accel.codecs import parse_codec
from accel.codecs.base import stored_codebook
from accel.codecs.records import pack_records
from accel.fold import fold_fields
from accel.isa import Instruction, encode_program
from accel.machine import load_machine
from accel.metrics import TRAFFIC
from accel.program import Layer, Program, WeightStream
from accel.tiles import record_fields


def random_layer(spelling, shape, axis, rng):
    """An encoded layer of random weights."""
    codec = parse_codec(spelling)
    codebook = random_codebook(codec, rng) if codec.codebook_entries else None
    weights = rng.normal(0, 40 if codec.code_bits == 8 else 4, shape).astype(np.float32)
    folded = {"projection": random_projection(codec, rng)} if codec.projection_shape else {}
    return codec.encode(weights, codebook, np.ones(1, np.float32), axis, **folded)


def tile_codes(layer, rows, columns):
    """Codes and side bits of one tile (slices of reduction and output channels) in stream order."""
    d = layer.codec.vector_length
    if layer.vector_axis == "out":
        cut = np.s_[columns.start // d : -(-columns.stop // d), rows]
    else:
        cut = np.s_[columns, rows.start // d : -(-rows.stop // d)]
    codes = layer.codes[cut].swapaxes(0, 1).reshape(-1)
    side = None if layer.side is None else layer.side[cut].transpose(1, 0, 2).reshape(-1, layer.side.shape[2])
    return codes, side


def stream_of(layer, tile_rows, tile_columns):
    """Bytes of all strips, each padded to whole blocks."""
    out, reduction = layer.shape
    layout = layer.codec.layout
    strips = []
    for first in range(0, out, tile_columns):
        columns = slice(first, min(first + tile_columns, out))
        tiles = [
            tile_codes(layer, slice(r, min(r + tile_rows, reduction)), columns) for r in range(0, reduction, tile_rows)
        ]
        side = np.concatenate([bits for _, bits in tiles]) if layer.side is not None else None
        data = pack_records(np.concatenate([codes for codes, _ in tiles]), side, layout)
        strips.append(np.pad(data, (0, -data.size % 64)))
    return np.concatenate(strips)


def weight_program(layers, tile_rows=16, tile_columns=16, gem_rows=10, chunk=10, machine=None):
    """A legal program that decodes each layer for one GEM of pointless inputs: the first bytes of its image."""
    inputs = gem_rows * max(layer.shape[1] for layer in layers)
    window = dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "in_h"), 1)
    load = {"rows": 1, "row_bytes": inputs, "kind": list(TRAFFIC).index("activations_read")}
    image, streams = [np.zeros(-(-inputs // 64) * 64, np.uint8)], []
    instructions, owner = [Instruction("LDA", load, push=("compute",))], [0]
    position = image[0].size
    after = [layer.codebook is not None for layer in layers[2:]] + [False, False]  # the next user of a bank waits
    for index, layer in enumerate(layers):
        codec, (out, reduction) = layer.codec, layer.shape
        stored = stored_codebook(layer)
        codebook = np.zeros(0, np.uint8) if stored is None else stored.view(np.uint8).reshape(-1)
        data = stream_of(layer, tile_rows, tile_columns)
        image += [np.pad(codebook, (0, -codebook.size % 64)), data]
        address = position + image[-2].size
        digest = hashlib.sha256(np.ascontiguousarray(codec.decode(layer)).data).hexdigest()
        streams.append(
            WeightStream(
                index, f"w{index}", str(codec), layer.vector_axis, address, data.size // 64, reduction, out,
                tile_rows, tile_columns, position, codebook.size, digest,
            )
        )  # fmt: skip
        kind = record_fields(codec)
        tile = {"tile_rows": tile_rows, "tile_columns": tile_columns}
        walk = {"passes": -(-gem_rows // chunk), "release": 1, "groups_per_tile": 1, "bank": index % 2}
        looked_up = {"codebook": int(codebook.size > 0), "axis_in": int(layer.vector_axis == "in")}
        part = [
            *([Instruction("LDC", {"address": position, "bytes": codebook.size, "bank": index % 2} | fold_fields(layer),
                           push=("decode",),
                           pop=("decode",) if index > 1 else ())] if codebook.size else []),
            Instruction("LDW", {"address": address, "blocks": data.size // 64, **kind}),
            Instruction("DEC", {**kind, **tile, **walk, **looked_up, "rows": reduction, "columns": out},
                        pop=("load",) if codebook.size else (), push=("load",) if after[index] else ()),
            Instruction("GMC", {**window, "in_w": gem_rows, "out_w": gem_rows, "pixel_stride": reduction}),
            Instruction("GMO", {"reduction": reduction, "out_stride": out, **tile}),
            Instruction("GEM", {"out": 1 << 17, "rows": gem_rows, "columns": out, "chunk": chunk, "groups_per_tile": 1},
                        pop=() if index else ("load",)),
        ]  # fmt: skip
        instructions += part
        owner += [index] * len(part)
        position = address + data.size
    instructions, owner = [*instructions, Instruction("FIN")], [*owner, len(layers) - 1]
    image = np.concatenate(image)
    return Program(
        model="test", codec="mixed", source={}, packed_digest="", machine=machine or load_machine("edge64"), batch=1,
        words=encode_program(instructions), instruction_layer=np.array(owner, np.int32), image=image,
        dram_bytes=image.size, layers=tuple(Layer(f"layer{n}", "gemm", macs=1000) for n in range(len(layers))),
        streams=tuple(streams), inputs=(), outputs=(), notes=("a note",),
    )  # fmt: skip
