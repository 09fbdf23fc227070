"""Weight streams of a compiled program as ``$readmemh`` files, so that a Verilog testbench decodes what DRAM holds.

For each stream, three files named after its weight:

- ``NAME.stream.memh``: the stream in 64-bit words, one a line; the first byte in DRAM is the lowest of the first word.
- ``NAME.codebook.memh``: one codeword a line, its first weight (int8) in the lowest byte; folded for ``lr2vq``. None
  for integer codecs.
- ``NAME.json``: what a decoder must be told to turn one into the other, and the SHA-256 of the expected weights.
  ``rows``, ``columns``, ``tile_rows``, ``tile_columns``, ``axis_in`` and ``code_bits`` are the arguments of the same
  names of ``accel_decoder_plan`` (the C header of a decoder's package).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.atomic import write_bytes, write_text
from accel.codecs import Codec, parse_codec
from accel.codecs.records import WORD_BITS
from accel.errors import ConfigError, FormatError, listed, nearest
from accel.fold import loaded_codebook
from accel.isa import BLOCK_BYTES, Instruction, decode_program
from accel.program import Program, WeightStream

_NAME_LIMIT = 120  # leaves room for the suffixes within the 255 bytes of common file systems


def export_streams(program: Program, folder: str | Path, weights: Sequence[str] | None = None) -> list[Path]:
    """Write the files of the named weights (all by default) into ``folder``, which is made if missing; return them.

    Each file is written atomically, a weight's JSON last. Raises ``ConfigError`` for an unknown weight and
    ``FormatError`` if the folder cannot be written.
    """
    target = Path(folder)
    chosen = _chosen(program.streams, weights)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FormatError(f"cannot write folder '{folder}': {error.strerror or error}") from error
    names = file_names([stream.weight for stream in chosen])
    return [path for stream, name in zip(chosen, names, strict=True) for path in _export(program, stream, target, name)]


def _chosen(streams: Sequence[WeightStream], weights: Sequence[str] | None) -> list[WeightStream]:
    known = [stream.weight for stream in streams]
    for weight in weights or ():
        if weight not in known:
            shown = listed(known[:8]) + (", ..." if len(known) > 8 else "") or "none"
            raise ConfigError(f"weight '{weight}' has no stream; allowed: {shown}{nearest(weight, known)}")
    return [stream for stream in streams if weights is None or stream.weight in weights]


def file_names(weights: Sequence[str]) -> list[str]:
    """A safe, distinct file name for each weight: letters, digits, ``.``, ``_``, ``-``; repeats get a number."""
    names: list[str] = []
    taken: set[str] = set()
    for weight in weights:
        base = re.sub(r"[^A-Za-z0-9._-]", "_", weight)[:_NAME_LIMIT].lstrip(".-") or "weight"
        name, count = base, 1
        while name.lower() in taken:  # some file systems ignore case
            count += 1
            name = f"{base}~{count}"
        taken.add(name.lower())
        names.append(name)
    return names


def _export(program: Program, stream: WeightStream, folder: Path, name: str) -> list[Path]:
    codec = parse_codec(stream.codec)
    data = program.image[stream.address : stream.address + stream.blocks * BLOCK_BYTES]
    paths = [folder / f"{name}.stream.memh"]
    write_bytes(paths[0], memh(data.reshape(-1, WORD_BITS // 8)))
    if codec.codebook_entries:
        paths.append(folder / f"{name}.codebook.memh")
        write_bytes(paths[1], memh(_codebook(program, stream, codec)))
    paths.append(folder / f"{name}.json")
    write_text(paths[-1], json.dumps(description(stream, codec, [path.name for path in paths[:-1]]), indent=1) + "\n")
    return paths


def _codebook(program: Program, stream: WeightStream, codec: Codec) -> npt.NDArray[np.uint8]:
    """As the decoder holds it: folded, if the program's LDC folds it."""
    if stream.codebook_bytes != codec.stored_codebook_bytes:
        raise FormatError(
            f"weight '{stream.weight}': codebook of {stream.codebook_bytes} bytes; {codec} takes "
            f"{codec.stored_codebook_bytes}"
        )
    data = program.image[stream.codebook_address : stream.codebook_address + stream.codebook_bytes]
    if codec.projection_shape:
        data = loaded_codebook(_load_of(program, stream), data, f"weight '{stream.weight}'")
    return data.reshape(-1, codec.vector_length)


def _load_of(program: Program, stream: WeightStream) -> Instruction:
    """The LDC that says how the codebook of ``stream`` is folded."""
    for instruction in decode_program(program.words):
        if instruction.mnemonic == "LDC" and instruction["address"] == stream.codebook_address:
            return instruction
    raise FormatError(f"weight '{stream.weight}': no LDC loads its codebook at {stream.codebook_address:#x}")


def description(stream: WeightStream, codec: Codec, files: list[str]) -> dict[str, Any]:
    """The JSON document of a stream whose words are in ``files``."""
    return {
        "weight": stream.weight,
        "files": files,
        "codec": stream.codec,
        "code_bits": codec.code_bits,
        "d": codec.vector_length,
        "signed": codec.has_signs,
        "side_bits": codec.layout.side_bits,
        "mask": _mask(codec),
        "codes_per_vector": codec.codes_per_vector,
        "axis": stream.vector_axis,
        "axis_in": int(stream.vector_axis == "in"),
        "rows": stream.rows,
        "columns": stream.columns,
        "tile_rows": stream.tile_rows,
        "tile_columns": stream.tile_columns,
        "digest": stream.digest,
    }


def _mask(codec: Codec) -> dict[str, int] | None:
    if codec.mask is None:
        return None
    return {"kept": codec.mask.kept, "group": codec.mask.group, "index_bits": codec.mask.index_bits}


def memh(words: npt.NDArray[np.uint8]) -> bytes:
    """Text for ``$readmemh``: ``words[n, bytes]``, lowest byte first, as n lines of hexadecimal digits."""
    count, width = words.shape
    lines = np.full((count, 2 * width + 1), ord("\n"), np.uint8)
    digits = np.ascontiguousarray(words[:, ::-1]).tobytes().hex().encode()
    lines[:, :-1] = np.frombuffer(digits, np.uint8).reshape(count, 2 * width)
    return lines.tobytes()
