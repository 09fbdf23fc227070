"""Decoders of two names in one design: Verilog, testbenches, C headers and FuseSoC cores stand side by side."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from pygments.lexers.hdl import SystemVerilogLexer
from pygments.token import Keyword, Operator

from accel.cli import main
from accel.codecs import parse_codec
from accel.errors import ConfigError
from rtl import testbench
from rtl.configuration import DecoderConfig
from rtl.names import DECODER, KEYWORDS, DecoderNames
from rtl.package import core_file, write_package
from rtl.register_text import c_header, markdown
from rtl.stream_text import stream_markdown
from rtl.tools import require, run_tool

pytestmark = pytest.mark.rtl
CONFIG = DecoderConfig(parse_codec("ssvq:k=16,d=8"), 2)
TWO = {"sign_vq": CONFIG, "Int8x": DecoderConfig(parse_codec("int8"), 2, 128)}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("two")
    for name, config in TWO.items():
        write_package(config, folder / name, DecoderNames(name))
    return {name: folder / name for name in TWO}


def modules(verilog: str) -> set[str]:
    return set(re.findall(r"^module \\?(\S+?) ?\(", verilog, re.MULTILINE))


def sources(packages: Mapping[str, Path]) -> list[str]:
    return [str(folder / f"{name}.v") for name, folder in packages.items()]


def test_no_module_is_in_both(packages: Mapping[str, Path]) -> None:
    first, second = (modules(Path(path).read_text()) for path in sources(packages))
    assert "sign_vq" in first and "Int8x" in second and len(first) > 9 < len(second)
    assert not first & second


def test_both_lint_together(packages: Mapping[str, Path], tmp_path: Path) -> None:
    top = tmp_path / "top.v"
    pins = "(.clk(clk), .rst(rst), .irq({}), .s_axis_tvalid(1'b0), .m_axis_tready(1'b0));"
    both = "\n".join(f"  {name} {name}_at{pins.format(f'irq[{at}]')}" for at, name in enumerate(packages))
    top.write_text(f"module top(input clk, input rst, output [1:0] irq);\n{both}\nendmodule\n")
    options = ["--lint-only", "-Wall", "-Wno-PINMISSING", "--top-module", "top"]
    log = run_tool("verilator", [*options, str(top), *sources(packages)], tmp_path, log="lint.log")
    assert "%Warning" not in log.read_text()


@pytest.mark.parametrize("name", TWO)
def test_each_bench_passes_beside_the_other_decoder(name: str, packages: Mapping[str, Path]) -> None:
    bench = packages[name] / "tb"
    built = ["-g2005-sv", "-o", "bench.vvp", "-s", f"{name}_tb", *sources(packages), f"{name}_tb.v"]
    run_tool("iverilog", built, bench, log="build.log")
    run = run_tool("vvp", ["-N", "bench.vvp"], bench, log="run.log", timeout_seconds=60)
    assert "PASS: " in run.read_text()


C = r"""
#include <stdio.h>
#include "accel_sign_vq.h"
#include "accel_Int8x.h"
int main(void) {
  uint32_t base[64] = {0};
  accel_sign_vq_layer first;
  accel_Int8x_layer second;
  int wrong = accel_sign_vq_plan(11, 24, 8, 16, 0, 4, &first) + accel_Int8x_plan(11, 24, 8, 16, 0, 8, &second);
  accel_sign_vq_start(base, &first);
  accel_Int8x_start(base, &second);
  printf("%d %u %u", wrong, ACCEL_SIGN_VQ_INPUT_BITS, ACCEL_INT8X_INPUT_BITS);
  return ACCEL_SIGN_VQ_OK + ACCEL_INT8X_OK;
}
"""


def test_both_headers_compile_in_one_file(packages: Mapping[str, Path], tmp_path: Path) -> None:
    require(["gcc"])
    (tmp_path / "main.c").write_text(C)
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", *(f"-I{folder}" for folder in packages.values())]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    told = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert told.stdout == "0 64 128"


def test_fusesoc_lists_both_cores(packages: Mapping[str, Path], tmp_path: Path) -> None:
    root = str(packages["Int8x"].parent)
    log = run_tool("fusesoc", ["--cores-root", root, "core", "list"], tmp_path, log="list.log").read_text()
    assert all(f"accel:decoder:{name}:" in log for name in TWO)


def texts(names: DecoderNames) -> dict[str, str]:
    """Every file of a package with a name in it, but for the Verilog."""
    bench = testbench.testbench_files(CONFIG, names=names)
    return {
        names.header: c_header(CONFIG, names),
        names.core: core_file(CONFIG, list(bench), names),
        "README.md": stream_markdown(CONFIG, names),
        "registers.md": markdown(CONFIG, names),
        **bench,
    }


def test_a_name_changes_nothing_but_names() -> None:
    names = DecoderNames("sign_vq")
    made = {path: text.split() for path, text in texts(names).items()}
    assert made == {renamed(path, names): renamed(text, names).split() for path, text in texts(DECODER).items()}
    assert not [path for path, text in texts(names).items() if re.search("accel_decoder|decoder_tb", text, re.I)]


def renamed(text: str, names: DecoderNames) -> str:
    text = text.replace(DECODER.macro_prefix, names.macro_prefix).replace(DECODER.prefix, names.prefix)
    text = re.sub(r"\bdecoder(_tb\b|\.v\b|\.core\b| dut\()", rf"{names.module}\1", text)
    return re.sub(r"(module `|toplevel: |accel:decoder:)decoder\b", rf"\1{names.module}", text)


def test_default_names() -> None:
    assert (DECODER.verilog, DECODER.core, DECODER.testbench) == ("decoder.v", "decoder.core", "decoder_tb")
    assert (DECODER.header, DECODER.prefix, DECODER.macro_prefix) == (
        "accel_decoder.h",
        "accel_decoder",
        "ACCEL_DECODER",
    )


@pytest.mark.parametrize(
    "name", ["", "8bit", "_a", "a-b", "a b", "a.b", "a/b", "größe", "a\n", "module", "logic", "xor"]
)
def test_bad_names_are_refused(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed: "):
        DecoderNames(name)
    folder = str(tmp_path / "package")
    argv = ["rtl", "decoder", "--codec", "int8", "-o", str(tmp_path / "x.v"), "--package", folder, f"--name={name}"]
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"decoder named {name!r}" in err and "allowed: " in err
    assert not list(tmp_path.iterdir())


def test_keywords_are_those_of_a_highlighter() -> None:
    """A table that is not ours."""
    kinds = {word: next(SystemVerilogLexer().get_tokens(f"{word} x"))[0] for word in KEYWORDS}
    assert not [word for word, kind in kinds.items() if kind not in Keyword and kind is not Operator.Word]
