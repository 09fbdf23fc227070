"""One exception class per source of blame; ``accel.cli`` turns each into one line and exit code 2.

Messages say what, the offending value, what is allowed, and where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.5  # of difflib's ratio
_SHORT, _SHORT_CLOSE, _COMMON = 3, 0.6, 2  # letters of a short word, its ratio; letters two words must share


class AccelError(Exception):
    """Base of every error a user can cause."""


class ConfigError(AccelError):
    """A machine description, override or command-line value is impossible."""


class ModelError(AccelError):
    """The source model cannot be read or holds something unsupported."""


class CodecError(AccelError):
    """A codec spelling or its parameters are impossible for these weights."""


class FormatError(AccelError):
    """A packed, program or run file is truncated, corrupt, hostile or of another version."""


class IsaError(AccelError):
    """An instruction cannot be encoded, decoded, assembled or is illegal in its program."""


class CompileError(AccelError):
    """The graph cannot be mapped onto the machine."""


class SimError(AccelError):
    """The program cannot be simulated on the machine."""


class ToolError(AccelError):
    """An external tool is missing, fails, or does not end in time."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` when an allowed word, or what it starts with, is close to ``word``, else an empty
    string. A single letter is close to no longer word: many have it."""
    matcher = difflib.SequenceMatcher(b=word)

    def closeness(candidate: str) -> float:
        ratios = [0.0]
        for text in (candidate, candidate[: len(word) + 1]):
            matcher.set_seq1(text)
            if sum(block.size for block in matcher.get_matching_blocks()) >= min(_COMMON, len(candidate)):
                ratios.append(matcher.ratio())
        return max(ratios)

    scores = {candidate: closeness(candidate) for candidate in allowed}
    best = max(scores, key=lambda candidate: scores[candidate], default="")
    needed = _CLOSE if len(word) > _SHORT else _SHORT_CLOSE
    return f"; did you mean '{best}'?" if scores.get(best, 0) >= needed else ""


def printable(message: Exception | str) -> str:
    """In one line, whatever names from a damaged file are in it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message))


def listed(words: Iterable[str]) -> str:
    """The allowed values as readers expect them: ``a, b, c``."""
    return ", ".join(words)
