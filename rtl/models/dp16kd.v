// Simulation model of the block RAM of Lattice ECP5, for netlists: Yosys' cells_sim_ecp5.v declares DP16KD without a
// body.
//
// Written from the behaviour in Lattice FPGA-TN-02204 (ECP5 and ECP5-5G Memory Usage Guide); the bits of words and
// addresses are used as Yosys' brams_map_16kd.v uses them. 18 Kbit as 1024 words of two 9-bit bytes. A port of width
// 36 (pseudo dual port: A writes, B reads) takes bits 17:0 from, or gives them to, port A's pins, and 35:18 port B's.
// Read: CE loads the read latch; with REGMODE OUTREG, OCE loads the output register from it one clock later.
//
// Strict where hardware is undefined: reading what the other port writes at the same clock edge gives X. Modes beyond
// WRITEMODE NORMAL, rising clocks and a use of asynchronous reset are not modelled: outputs are X then.
module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
    DIA1, DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
    DIB1, DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18;
  parameter DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG";
  parameter REGMODE_B = "NOREG";
  parameter RESETMODE = "SYNC";
  parameter ASYNC_RESET_RELEASE = "SYNC";
  parameter CSDECODE_A = "0b000";
  parameter CSDECODE_B = "0b000";
  parameter WRITEMODE_A = "NORMAL";
  parameter WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA";
  parameter CLKBMUX = "CLKB";
  parameter GSR = "ENABLED";
  parameter INIT_DATA = "STATIC";
  parameter WID = 0;
  parameter INITVAL_00 = 320'h0, INITVAL_01 = 320'h0, INITVAL_02 = 320'h0, INITVAL_03 = 320'h0;
  parameter INITVAL_04 = 320'h0, INITVAL_05 = 320'h0, INITVAL_06 = 320'h0, INITVAL_07 = 320'h0;
  parameter INITVAL_08 = 320'h0, INITVAL_09 = 320'h0, INITVAL_0A = 320'h0, INITVAL_0B = 320'h0;
  parameter INITVAL_0C = 320'h0, INITVAL_0D = 320'h0, INITVAL_0E = 320'h0, INITVAL_0F = 320'h0;
  parameter INITVAL_10 = 320'h0, INITVAL_11 = 320'h0, INITVAL_12 = 320'h0, INITVAL_13 = 320'h0;
  parameter INITVAL_14 = 320'h0, INITVAL_15 = 320'h0, INITVAL_16 = 320'h0, INITVAL_17 = 320'h0;
  parameter INITVAL_18 = 320'h0, INITVAL_19 = 320'h0, INITVAL_1A = 320'h0, INITVAL_1B = 320'h0;
  parameter INITVAL_1C = 320'h0, INITVAL_1D = 320'h0, INITVAL_1E = 320'h0, INITVAL_1F = 320'h0;
  parameter INITVAL_20 = 320'h0, INITVAL_21 = 320'h0, INITVAL_22 = 320'h0, INITVAL_23 = 320'h0;
  parameter INITVAL_24 = 320'h0, INITVAL_25 = 320'h0, INITVAL_26 = 320'h0, INITVAL_27 = 320'h0;
  parameter INITVAL_28 = 320'h0, INITVAL_29 = 320'h0, INITVAL_2A = 320'h0, INITVAL_2B = 320'h0;
  parameter INITVAL_2C = 320'h0, INITVAL_2D = 320'h0, INITVAL_2E = 320'h0, INITVAL_2F = 320'h0;
  parameter INITVAL_30 = 320'h0, INITVAL_31 = 320'h0, INITVAL_32 = 320'h0, INITVAL_33 = 320'h0;
  parameter INITVAL_34 = 320'h0, INITVAL_35 = 320'h0, INITVAL_36 = 320'h0, INITVAL_37 = 320'h0;
  parameter INITVAL_38 = 320'h0, INITVAL_39 = 320'h0, INITVAL_3A = 320'h0, INITVAL_3B = 320'h0;
  parameter INITVAL_3C = 320'h0, INITVAL_3D = 320'h0, INITVAL_3E = 320'h0, INITVAL_3F = 320'h0;

  // 16 words of 18 bits in every INITVAL, 20 bits apart.
  localparam [20479:0] INIT = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
    INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
    INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
    INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
    INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
    INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
    INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
    INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
  };
  localparam SUPPORTED = WRITEMODE_A == "NORMAL" && WRITEMODE_B == "NORMAL"
    && CLKAMUX == "CLKA" && CLKBMUX == "CLKB" && CSDECODE_A == "0b000" && CSDECODE_B == "0b000"
    && (DATA_WIDTH_A != 36 || DATA_WIDTH_B == 36);

  wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [17:0] pins_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
    DIA3, DIA2, DIA1, DIA0};
  wire [17:0] pins_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
    DIB3, DIB2, DIB1, DIB0};
  wire enable_a = CEA && {CSA2, CSA1, CSA0} == 0;
  wire enable_b = CEB && {CSB2, CSB1, CSB0} == 0;

  // What a port touches: the bits of the 36-bit row it addresses, and its data spread over them.
  function [35:0] mask(input integer width, input [13:0] address, input write);
    case (width)
      36: mask = write ? {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}} : {36{1'b1}};
      18: mask = {18'b0, write ? {{9{address[1]}}, {9{address[0]}}} : {18{1'b1}}} << (18 * address[4]);
      9: mask = 36'h1ff << shift(width, address);
      default: mask = ((36'h1 << width) - 1) << shift(width, address);
    endcase
  endfunction

  function integer shift(input integer width, input [13:0] address);
    case (width)
      36: shift = 0;
      18: shift = 18 * address[4];
      9: shift = 9 * address[4:3];
      default: shift = 9 * address[4:3] + (address[2:0] & ~(width - 1));
    endcase
  endfunction

  reg [35:0] memory[0:511];
  reg [35:0] latch_a, latch_b, register_a, register_b;
  integer row;
  initial begin
    for (row = 0; row < 512; row = row + 1) memory[row] = {INIT[40 * row + 20 +: 18], INIT[40 * row +: 18]};
    latch_a = 0; latch_b = 0; register_a = 0; register_b = 0;
  end

  wire write_a = enable_a && WEA;
  wire write_b = enable_b && WEB;
  wire [35:0] mask_a = write_a ? mask(DATA_WIDTH_A, address_a, 1'b1) : 36'b0;
  wire [35:0] mask_b = write_b ? mask(DATA_WIDTH_B, address_b, 1'b1) : 36'b0;
  wire [35:0] data_a = {DATA_WIDTH_A == 36 ? pins_b : 18'b0, pins_a} << shift(DATA_WIDTH_A, address_a);
  wire [35:0] data_b = {18'b0, pins_b} << shift(DATA_WIDTH_B, address_b);
  wire [35:0] lost_a = address_a[13:5] == address_b[13:5] ? mask_b : 36'b0;
  wire [35:0] lost_b = address_a[13:5] == address_b[13:5] ? mask_a : 36'b0;

  always @(posedge CLKA) begin
    if (RSTA) register_a <= 0; else if (OCEA) register_a <= latch_a;
    if (RSTA) latch_a <= 0;
    else if (enable_a && !WEA) latch_a <= (memory[address_a[13:5]] ^ (lost_a & {36{1'bx}})) >> shift(DATA_WIDTH_A,
      address_a);
    if (write_a) memory[address_a[13:5]] <= memory[address_a[13:5]] & ~mask_a | data_a & mask_a;
  end

  always @(posedge CLKB) begin
    if (RSTB) register_b <= 0; else if (OCEB) register_b <= latch_b;
    if (RSTB) latch_b <= 0;
    else if (enable_b && !WEB) latch_b <= (memory[address_b[13:5]] ^ (lost_b & {36{1'bx}})) >> shift(DATA_WIDTH_B,
      address_b);
    if (write_b) memory[address_b[13:5]] <= memory[address_b[13:5]] & ~mask_b | data_b & mask_b;
  end

  function [35:0] kept(input integer width);
    kept = (36'h1 << width) - 1;
  endfunction

  // Yosys writes RESETMODE ASYNC where no reset is used at all.
  wire reset_known = RESETMODE == "SYNC" || !RSTA && !RSTB;
  wire [35:0] read_a = SUPPORTED && reset_known ? REGMODE_A == "OUTREG" ? register_a : latch_a : {36{1'bx}};
  wire [35:0] read_b = SUPPORTED && reset_known ? REGMODE_B == "OUTREG" ? register_b : latch_b : {36{1'bx}};
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0} = DATA_WIDTH_B == 36 ? read_b[17:0] : read_a[17:0] & kept(DATA_WIDTH_A);
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0} = DATA_WIDTH_B == 36 ? read_b[35:18] : read_b[17:0] & kept(DATA_WIDTH_B);
endmodule
