"""check_weights: what the instructions decode is what the codec's reference decodes, and nothing else passes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_cases import random_layer, weight_program

from accel.errors import AccelError, SimError
from accel.isa import decode_program, encode_program
from sim import check_weights

CODECS = ("int8", "int4", "vq:k=256,d=4", "vq:k=32,d=4", "ssvq:k=256,d=8", "ssvq:k=16,d=8", "ssvq:k=64,d=4")
# vectors never cross a tile: d divides the 24 columns and 16 rows of the tiles below
CODECS += (
    "mvq:k=32,d=8,nm=3:8",
    "mvq:k=32,d=4,nm=2:4",
    "mvq:k=16,d=8,nm=2:4",
    "mvq:k=8,d=4,nm=1:2",
    "lr2vq:k=32,m=8,r=3",
    "rvq:k=32,d=8,stages=3",
    "rvq:k=256,d=4,stages=2",
    "rvq:k=8,d=1,stages=2",
)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_decoded_weights_have_the_reference_digest(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    layers = [
        random_layer(
            data.draw(st.sampled_from(CODECS)),
            (data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))),
            data.draw(st.sampled_from(["out", "in"])),
            rng,
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    check_weights(weight_program(layers, tile_rows=16, tile_columns=24, chunk=data.draw(st.sampled_from([3, 10]))))


def program():
    rng = np.random.default_rng(0)
    return weight_program([random_layer(name, (40, 50), "out", rng) for name in ("ssvq:k=16,d=8", "vq:k=256,d=4")])


def edited(original, edit):
    instructions = [edit(index, i) for index, i in enumerate(decode_program(original.words))]
    return replace(original, words=encode_program(instructions))


@pytest.mark.parametrize("stream", [0, 1])
def test_a_flipped_bit_is_found(stream):
    original = program()
    image = original.image.copy()
    image[original.streams[stream].address + 5] ^= 4
    with pytest.raises(SimError, match=f"weights 'w{stream}': the program decodes SHA-256"):
        check_weights(replace(original, image=image))


def test_a_wrong_codebook_is_found():
    original = program()
    image = original.image.copy()
    first, size = original.streams[1].codebook_address, original.streams[1].codebook_bytes
    image[first : first + size] ^= 1
    with pytest.raises(SimError, match="weights 'w1'"):
        check_weights(replace(original, image=image))


def test_a_mask_index_without_mask_is_named():
    original = weight_program([random_layer("mvq:k=32,d=16,nm=4:16", (32, 50), "out", np.random.default_rng(0))])
    image = original.image.copy()
    image[original.streams[0].address + 1] = 255  # the upper bits of an index of 1820 masks
    with pytest.raises(SimError, match=r"DEC: mask 4:16: mask index \d+ is out of range; allowed: below 1820"):
        check_weights(replace(original, image=image))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rank": 7}, "LDC: bytes = 120; allowed: multiples of rank = 7 from 63 on"),
        ({"shift": 21}, "LDC: shift = 21; allowed: at most 20"),
        ({"vector_length": 2}, "LDC: rank 3 of codewords of 2 weights; allowed: 1 to m"),
        ({"vector_length": 39, "rank": 3}, "DEC: needs a codebook of 256 bytes"),
        ({"shift": 2}, "the program decodes SHA-256"),
    ],
)
def test_a_wrong_fold_is_found(change, message):
    def refold(_, i):
        return replace(i, values={**i.values, **change}) if i.mnemonic == "LDC" else i

    original = weight_program([random_layer("lr2vq:k=32,m=8,r=3", (32, 50), "out", np.random.default_rng(0))])
    with pytest.raises(AccelError, match=message):
        check_weights(edited(original, refold))


def test_a_projection_that_no_codec_makes_is_refused():
    original = weight_program([random_layer("lr2vq:k=32,m=8,r=3", (32, 50), "out", np.random.default_rng(0))])
    image = original.image.copy()
    image[original.streams[0].codebook_address + 32 * 3] = 128
    with pytest.raises(AccelError, match="LDC: projection element -128; allowed: -127 to 127"):
        check_weights(replace(original, image=image))


def test_a_codebook_no_token_vouches_for_is_refused():
    bare = edited(program(), lambda _, i: replace(i, pop=()))
    with pytest.raises(SimError, match="no token tells that a codebook is in bank 0"):
        check_weights(bare)


def test_a_wrong_tile_cut_is_refused():
    def cut(_, i):
        return replace(i, values={**i.values, "tile_rows": 8}) if i.mnemonic == "DEC" else i

    with pytest.raises(SimError, match="does not cut 'w0' into the strips and tiles"):
        check_weights(edited(program(), cut))


def test_a_weight_nobody_decodes_is_named():
    original = program()
    spare = replace(original.streams[0], weight="spare", address=1, blocks=0)
    with pytest.raises(SimError, match="'spare': 40 of 40 channels are never decoded"):
        check_weights(replace(original, streams=(*original.streams, spare)))


def test_missing_blocks_are_named():
    def shorten(_, i):
        return replace(i, values={**i.values, "blocks": 1}) if i.mnemonic == "LDW" else i

    with pytest.raises(SimError, match=r"DEC decodes ring block \d+, which no LDW loads"):
        check_weights(edited(program(), shorten))


def test_rereading_and_passes_decode_once_and_agree():
    rng = np.random.default_rng(1)
    original = weight_program([random_layer("vq:k=256,d=4", (40, 50), "out", rng)], chunk=4)
    instructions = decode_program(original.words)
    dec, gem = instructions[3], instructions[6]
    keep = replace(dec, values={**dec.values, "release": 0})
    again = [*instructions[:3], keep, replace(dec, pop=()), *instructions[4:7], replace(gem, pop=()), instructions[7]]
    layer = np.zeros(len(again), np.int32)
    check_weights(replace(original, words=encode_program(again), instruction_layer=layer))
