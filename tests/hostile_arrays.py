"""Files with an array ``x`` [1, 2, 3] that must be refused in one line, whichever command reads them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

MAGIC = b"\x93NUMPY\x01\x00"
SOUND = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3)}"


def npy(header: str, data: bytes = bytes(24), magic: bytes = MAGIC) -> bytes:
    """An .npy file with any text as its header."""
    text = header.encode("latin1") + b"\n"
    return magic + len(text).to_bytes(2, "little") + text + data


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An .npz file with any bytes as its arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def shaped(shape: str, **more: bytes) -> bytes:
    """``x`` of any shape."""
    return zipped(("x.npy", npy(SOUND.replace("(1, 2, 3)", shape), **more)))


def typed(descr: str) -> bytes:
    """``x`` of any element type."""
    return zipped(("x.npy", npy(SOUND.replace("'<f4'", descr))))


def encrypted() -> bytes:
    """An array that says it needs a password, in both of its ZIP headers."""
    data = bytearray(zipped(("x.npy", npy(SOUND))))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def damaged() -> bytes:
    """An array whose last byte does not have the checksum of its ZIP entry."""
    sound = zipped(("x.npy", npy(SOUND, b"#" * 24)))
    return sound.replace(b"#PK\1\2", b"$PK\1\2")


def bomb() -> bytes:
    """320 MB of zeros in 320 KB."""
    array = npy(SOUND.replace("1, 2, 3", "13333334, 2, 3"), bytes(24 * 13_333_334))
    return zipped(("x.npy", array), method=zipfile.ZIP_DEFLATED)


HEADER = "input 'x': not the header of an array"
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut literal": (lambda: zipped(("x.npy", npy("{'descr':"))), HEADER),
    "open string": (lambda: zipped(("x.npy", npy("{'descr': '''"))), HEADER),
    "indented": (lambda: zipped(("x.npy", npy("  {\n 1\n  }"))), HEADER),
    "nested": (lambda: zipped(("x.npy", npy("(" * 4000))), HEADER),
    "minus signs": (lambda: zipped(("x.npy", npy("-" * 9000 + "1"))), HEADER),
    "long": (lambda: zipped(("x.npy", npy(SOUND + " " * 20000))), HEADER),
    "list": (lambda: zipped(("x.npy", npy("[1, 2]"))), HEADER),
    "cut header": (lambda: zipped(("x.npy", npy(SOUND)[:40])), HEADER),
    "no type": (lambda: typed("'<q9'"), HEADER),
    "odd type": (lambda: typed("(1, 2, 3)"), HEADER),
    "escape": (lambda: typed("'\\d'"), HEADER),
    "text shape": (lambda: shaped("'a'"), HEADER),
    "true": (lambda: shaped("(True, 2, 3)"), "shape (True, 2, 3); allowed: up to 64 whole numbers"),
    "negative": (lambda: shaped("(-1, 2, 3)"), "shape (-1, 2, 3); allowed: up to 64 whole numbers"),
    "digits": (lambda: shaped(f"(0x{'f' * 9000}, 2, 3)"), "cannot read"),
    "rank": (lambda: shaped("(" + "1," * 1000 + ")"), "allowed: up to 64 whole numbers"),
    "version": (lambda: shaped("(1, 2, 3)", magic=b"\x93NUMPY\x03\x00"), "array format 3.0; allowed: 1.0, 2.0"),
    "magic": (lambda: zipped(("x.npy", b"no magic at all")), "cannot read"),
    "empty": (lambda: zipped(("x.npy", b"")), "cannot read"),
    "truncated": (lambda: shaped("(1, 2, 3)", data=bytes(20)), "is truncated: 20 bytes; its header says 24"),
    "longer": (lambda: shaped("(1, 2, 3)", data=bytes(28)), "goes on after its end: 28 bytes; its header says 24"),
    "damaged": (damaged, "Bad CRC-32"),
    "objects": (lambda: typed("'|O'"), "element type object; allowed: real numbers"),
    "structure": (lambda: typed(str([("a" * 30 + str(i), "<f4") for i in range(90)])), "; allowed: real numbers"),
    "subarray": (lambda: typed("('<f4', (3,))"), "; allowed: real numbers"),
    "truths": (lambda: typed("'|b1'"), "element type bool; allowed: real numbers"),
    "dates": (lambda: typed("'<M8[s]'"), "element type datetime64[s]; allowed: real numbers"),
    "complex": (lambda: typed("'<c8'"), "element type complex64; allowed: real numbers"),
    "encrypted": (encrypted, "input 'x': encrypted; allowed: arrays without a password"),
    "bzip2": (lambda: zipped(("x.npy", npy(SOUND)), method=zipfile.ZIP_BZIP2), "compression method 12; allowed: 0 (st"),
    "twice": (lambda: zipped(("x.npy", npy(SOUND)), ("x", npy(SOUND))), "input 'x': two arrays; allowed: one"),
    "other name": (lambda: zipped(("x\n.npy", npy(SOUND))), "no input 'x\\n'; inputs are x; did you mean 'x'?"),
    "nothing": (lambda: zipped(), "no array for input 'x'; it holds none"),
    "text": (lambda: b"hello", "cannot read"),
}  # fmt: skip

FLOATS = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", np.dtype(np.longdouble).str)
INTEGERS = ("|i1", "|u1", *(f"{order}{kind}{width}" for order in "<>" for kind in "iu" for width in (2, 4, 8)))


def save_hostile(path: Path, kind: str) -> str:
    """Write a file of ``REFUSED``; the message that must come."""
    make, message = REFUSED[kind]
    path.write_bytes(make())
    return message
