"""A self-checking Verilog testbench of a decoder and its vectors: random layers under stalls, no Python needed.

Vectors are ``$readmemh`` files; one line is one write or beat, its control bits in digits of their own before its data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import Template

import numpy as np

from rtl.configuration import DecoderConfig
from rtl.layer import Geometry, LayerPlan, layer_plan, strip_plan
from rtl.names import DECODER, DecoderNames
from rtl.registers import ADDRESS_BITS, EVENTS, layer_values, register_map
from rtl.vectors import LayerVectors, random_layer

LAYERS = 4
_MOST_VECTORS = 60  # of a tile
_LINES = ("writes", "codebook", "stream", "expected")


def testbench_files(config: DecoderConfig, seed: int = 0, names: DecoderNames = DECODER) -> Mapping[str, str]:
    """File name -> text: the testbench (``decoder_tb.v`` by default) and the vectors it reads."""
    layers = bench_layers(config, seed)
    lines = {
        "writes": list(_writes(config, layers)),
        "codebook": [line for layer in layers for line in beat_lines(layer.codebook, 8, with_keep=True)],
        "stream": [line for layer in layers for p in layer.packets for line in beat_lines(p, config.input_bits // 8)],
        "expected": [output_line(config, beat.weights, beat.last) for layer in layers for beat in layer.output],
    }
    kept = {name: rows for name, rows in lines.items() if rows}
    files = {f"{name}.memh": "\n".join(rows) + "\n" for name, rows in kept.items()}
    bench = _testbench(config, {name: len(lines[name]) for name in _LINES}, layers, names)
    return {f"{names.testbench}.v": bench, **files}


def bench_layers(config: DecoderConfig, seed: int = 0) -> list[LayerVectors]:
    """First ``example_geometry`` with the widest codes, then layers of one to three strips of one to three tiles, of
    random width."""
    rng = np.random.default_rng(seed)
    widths = rng.choice(list(config.formats), LAYERS - 1)
    first = layer_plan(config, example_geometry(config), max(config.formats))
    plans = [first, *(_random_plan(config, int(width), rng) for width in widths)]
    return [random_layer(config, plan, rng) for plan in plans]


def example_geometry(config: DecoderConfig) -> Geometry:
    """A small layer with a narrower last strip, a shorter last tile, and odd numbers of vectors in both."""
    d = config.vector_length
    return Geometry(rows=11, columns=3 * d, tile_rows=8, tile_columns=2 * d)


def _random_plan(config: DecoderConfig, code_bits: int, rng: np.random.Generator) -> LayerPlan:
    strips, tiles = (int(count) for count in rng.integers(1, 4, 2))
    sizes = rng.integers(1, _MOST_VECTORS, (2, 2)).tolist()
    full, edge = (strip_plan(config, code_bits, tiles, most if tiles > 1 else last, last) for most, last in sizes)
    return LayerPlan(code_bits, strips, full if strips > 1 else edge, edge)


def _writes(config: DecoderConfig, layers: Sequence[LayerVectors]) -> Iterator[str]:
    registers = register_map(config)
    for layer in layers:
        for name, value in {**layer_values(layer.plan), "START": 1}.items():
            yield f"{registers[name].offset:02x}{value:08x}"


def beat_lines(packet: bytes, width: int, *, with_keep: bool = False) -> Iterator[str]:
    """Beats of ``width`` bytes: TLAST, TKEEP if asked for, TDATA."""
    for at in range(0, len(packet), width):
        part = packet[at : at + width]
        keep = f"{(1 << len(part)) - 1:0{width // 4}x}" if with_keep else ""
        yield f"{int(at + width >= len(packet))}{keep}{int.from_bytes(part, 'little'):0{2 * width}x}"


def output_line(config: DecoderConfig, weights: bytes, last: bool) -> str:
    """A beat that comes out: TLAST, TKEEP, TDATA."""
    size = config.output_bytes
    keep = (1 << len(weights)) - 1
    return f"{int(last)}{keep:0{-(-size // 4)}x}{int.from_bytes(weights, 'little'):0{2 * size}x}"


def _testbench(
    config: DecoderConfig, counts: Mapping[str, int], layers: Sequence[LayerVectors], names: DecoderNames
) -> str:
    registers = register_map(config)
    return _BENCH.substitute(
        names.fields(),
        input_bits=config.input_bits,
        bytes=config.output_bytes,
        keep_digits=-(-config.output_bytes // 4),
        address_bits=ADDRESS_BITS,
        layers=len(layers),
        tiles=sum(strip.tiles for layer in layers for strip in layer.plan),
        done_bit=list(EVENTS).index("layer_done"),
        **{f"{name.lower()}_offset": registers[name].offset for name in ("EVENTS", "LAYERS_DONE", "TILES_OUT")},
        **{f"{name}_lines": count for name, count in counts.items()},
        codebook=Template(_CODEBOOK).substitute(lines=counts["codebook"]) if config.has_codebook else "",
        codebook_ports=_CODEBOOK_PORTS if config.has_codebook else "",
    )


_CODEBOOK = """
  reg [75:0] codebook [0:$lines-1];
  initial $$readmemh("codebook.memh", codebook);
  reg [63:0] book_data;
  reg [7:0] book_keep;
  reg book_valid = 0, book_last;
  wire book_ready;
  integer book_at = 0;
  always @(posedge clk)
    if (!rst && (!book_valid || book_ready)) begin
      book_valid <= book_at < $lines && chance[2:0] != 0;
      if (book_at < $lines && chance[2:0] != 0) begin
        {book_last, book_keep, book_data} <= codebook[book_at][72:0];
        book_at <= book_at + 1;
      end
    end
"""

_CODEBOOK_PORTS = """\
    .s_axis_codebook_tdata(book_data), .s_axis_codebook_tkeep(book_keep), .s_axis_codebook_tvalid(book_valid),
    .s_axis_codebook_tready(book_ready), .s_axis_codebook_tlast(book_last),
"""

_BENCH = Template("""\
// Decodes random layers while all streams stall at random, and compares every beat that comes out.
// Prints PASS, or FAIL and ends with an error. Reads *.memh from the folder it runs in.
`timescale 1ns/1ps

module $testbench;
  reg clk = 0, rst = 0;
  always #5 clk = ~clk;

  // A 32-bit LFSR decides who stalls.
  reg [31:0] chance = 32'h1BADB002;
  always @(posedge clk) chance <= {chance[30:0], chance[31] ^ chance[21] ^ chance[1] ^ chance[0]};

  integer cycles = 0;
  always @(posedge clk) begin
    cycles <= cycles + 1;
    if (cycles > 20000 + 50 * ($stream_lines + $codebook_lines + $writes_lines)) begin
      $$display("FAIL: nothing more happens after %0d of $expected_lines beats", seen);
      $$fatal(1);
    end
  end

  // The weight stream.
  reg [${input_bits}+3:0] stream [0:$stream_lines-1];
  initial $$readmemh("stream.memh", stream);
  reg [$input_bits-1:0] beat_data;
  reg beat_valid = 0, beat_last;
  wire beat_ready;
  integer beat_at = 0;
  always @(posedge clk)
    if (!rst && (!beat_valid || beat_ready)) begin
      beat_valid <= beat_at < $stream_lines && chance[9:8] != 0;
      if (beat_at < $stream_lines && chance[9:8] != 0) begin
        {beat_last, beat_data} <= stream[beat_at][$input_bits:0];
        beat_at <= beat_at + 1;
      end
    end
$codebook
  // What comes out.
  reg [4*(1+$keep_digits)+8*$bytes-1:0] expected [0:$expected_lines-1];
  initial $$readmemh("expected.memh", expected);
  wire [8*$bytes-1:0] out_data;
  wire [$bytes-1:0] out_keep;
  wire out_valid, out_last;
  reg out_ready = 0;
  integer seen = 0, byte_at;
  reg [8*$bytes-1:0] wanted_data;
  reg [$bytes-1:0] wanted_keep;
  reg wanted_last, wrong;
  always @(posedge clk) begin
    out_ready <= chance[17:16] != 0;
    if (!rst && out_valid && out_ready) begin
      if (seen >= $expected_lines) begin
        $$display("FAIL: a beat too many");
        $$fatal(1);
      end
      wanted_data = expected[seen][8*$bytes-1:0];
      wanted_keep = expected[seen][8*$bytes+$bytes-1:8*$bytes];
      wanted_last = expected[seen][8*$bytes+4*$keep_digits];
      wrong = out_keep !== wanted_keep || out_last !== wanted_last;
      for (byte_at = 0; byte_at < $bytes; byte_at = byte_at + 1)
        if (wanted_keep[byte_at] && out_data[8*byte_at +: 8] !== wanted_data[8*byte_at +: 8]) wrong = 1;
      if (wrong) begin
        $$display("FAIL: beat %0d is %h keep %b last %b; expected %h keep %b last %b", seen, out_data, out_keep,
                 out_last, wanted_data, wanted_keep, wanted_last);
        $$fatal(1);
      end
      seen <= seen + 1;
    end
  end

  // The registers.
  reg [39:0] writes [0:$writes_lines-1];
  initial $$readmemh("writes.memh", writes);
  reg [$address_bits-1:0] awaddr, araddr;
  reg [31:0] wdata;
  reg awvalid = 0, wvalid = 0, bready = 0, arvalid = 0, rready = 0;
  wire awready, wready, bvalid, arready, rvalid, irq;
  wire [1:0] bresp, rresp;
  wire [31:0] rdata;

  // Driven at falling edges, so that no simulator has a choice of order.
  reg [1:0] taken;
  task write(input [39:0] line);
    begin
      awaddr = line[32 +: $address_bits];
      wdata = line[31:0];
      {awvalid, wvalid, bready} = 3'b111;
      while (awvalid || wvalid) begin
        taken = {awready, wready};
        @(negedge clk);
        {awvalid, wvalid} = {awvalid, wvalid} & ~taken;
      end
      while (!bvalid) @(negedge clk);
      if (bresp != 0) begin
        $$display("FAIL: write of %h is answered %b", line, bresp);
        $$fatal(1);
      end
      @(negedge clk);
      bready = 0;
    end
  endtask

  task check(input [$address_bits-1:0] offset, input [31:0] value);
    begin
      araddr = offset;
      {arvalid, rready} = 2'b11;
      while (!arready) @(negedge clk);
      @(negedge clk);
      arvalid = 0;
      while (!rvalid) @(negedge clk);
      if (rresp != 0 || rdata !== value) begin
        $$display("FAIL: register at %h is %h, answered %b; expected %h", offset, rdata, rresp, value);
        $$fatal(1);
      end
      @(negedge clk);
      rready = 0;
    end
  endtask

  integer write_at;
  initial begin
    #1 rst = 1;  // not at once: in Icarus, `always @*` of Yosys' Verilog waits for a change
    repeat (4) @(negedge clk);
    rst = 0;
    @(negedge clk);
    for (write_at = 0; write_at < $writes_lines; write_at = write_at + 1) write(writes[write_at]);
    while (seen < $expected_lines) @(negedge clk);
    repeat (100) @(negedge clk);
    check($layers_done_offset, $layers);
    check($tiles_out_offset, $tiles);
    check($events_offset, 32'd1 << $done_bit);
    $$display("PASS: %0d beats in %0d cycles", seen, cycles);
    $$finish;
  end

  $module dut(
    .clk(clk), .rst(rst), .irq(irq),
    .s_axis_tdata(beat_data), .s_axis_tvalid(beat_valid), .s_axis_tready(beat_ready), .s_axis_tlast(beat_last),
$codebook_ports\
    .m_axis_tdata(out_data), .m_axis_tkeep(out_keep), .m_axis_tvalid(out_valid), .m_axis_tready(out_ready),
    .m_axis_tlast(out_last),
    .s_axil_awaddr(awaddr), .s_axil_awvalid(awvalid), .s_axil_awready(awready),
    .s_axil_wdata(wdata), .s_axil_wstrb(4'hF), .s_axil_wvalid(wvalid), .s_axil_wready(wready),
    .s_axil_bresp(bresp), .s_axil_bvalid(bvalid), .s_axil_bready(bready),
    .s_axil_araddr(araddr), .s_axil_arvalid(arvalid), .s_axil_arready(arready),
    .s_axil_rdata(rdata), .s_axil_rresp(rresp), .s_axil_rvalid(rvalid), .s_axil_rready(rready));
endmodule
""")
