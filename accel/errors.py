"""One exception class per source of blame; ``accel.cli`` turns each into one line and exit code 2.

Messages say what, the offending value, what is allowed, and where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.5  # of difflib's ratio


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
    string."""
    matcher = difflib.SequenceMatcher(b=word)

    def closeness(candidate: str) -> float:
        ratios = []
        for text in (candidate, candidate[: len(word) + 1]):
            matcher.set_seq1(text)
            ratios.append(matcher.ratio())
        return max(ratios)

    scores = {candidate: closeness(candidate) for candidate in allowed}
    best = max(scores, key=lambda candidate: scores[candidate], default="")
    return f"; did you mean '{best}'?" if scores.get(best, 0) >= _CLOSE else ""


def printable(error: Exception) -> str:
    """Its message in one line, whatever names from a damaged file are in it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))


def listed(words: Iterable[str]) -> str:
    """The allowed values as readers expect them: ``a, b, c``."""
    return ", ".join(words)
