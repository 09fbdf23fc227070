"""The models of a sweep, compressed: each model in each codec once, kept by content for later sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from accel.cli.compress import bits_per_weight, kept_codecs, mean_relative_error, source_facts
from accel.cli.options import say
from accel.cli.sweep_work import packed_path, refusal, tool_digest
from accel.errors import CodecError, ModelError
from accel.sweep.points import content_digest
from accel.sweep.spec import SweepSpec
from accel.sweep.store import Store

if TYPE_CHECKING:
    from accel.cli.progress import Report
    from compiler.frontend import LoadedModel

Facts = Mapping[str, Any]


@dataclass(slots=True)
class Models:
    """Loads and compresses what is asked for. ``report`` hears of the layers."""

    spec: SweepSpec
    store: Store
    report: Report
    _loaded: dict[str, tuple[LoadedModel, str]] = field(default_factory=dict)
    _facts: dict[tuple[str, str], Facts] = field(default_factory=dict)

    def facts(self, model: str, codec: str) -> Facts:
        """``packed`` (of ``packed_path``), ``packed_digest`` and figures of the packed model, or why there is none.

        Raises ``ModelError`` for a model that cannot be loaded.
        """
        if (model, codec) not in self._facts:
            self._facts[model, codec] = self._find(model, codec)
        return self._facts[model, codec]

    def _find(self, model: str, codec: str) -> Facts:
        loaded, digest = self._load(model)
        spec = self.spec
        key = content_digest([digest, codec, spec.keep, spec.scale, spec.vector_axis, spec.seed, tool_digest()])
        known = self.store.get([key]).get(key)
        if known is not None and packed_path(key).is_file():
            return dict(known)
        try:
            facts = self._compress(loaded, codec, key)
        except CodecError as error:
            return refusal(error)
        self.store.put({key: facts})
        return facts

    def _load(self, model: str) -> tuple[LoadedModel, str]:
        from accel.packed import model_digest
        from compiler.frontend import load_model

        if model not in self._loaded:
            loaded = load_model(model, seed=self.spec.seed, progress=say)
            if not loaded.graph.weight_ops():
                raise ModelError(f"nothing to compress: '{model}' has no conv or gemm with constant weights")
            facts = [model_digest(loaded.graph, loaded.weights), source_facts(loaded.source)]
            self._loaded[model] = loaded, content_digest(facts)
        return self._loaded[model]

    def _compress(self, model: LoadedModel, codec: str, key: str) -> dict[str, Any]:
        from accel.codecs import parse_codec
        from accel.packed import packed_digest, write_packed
        from compiler.compress import compress

        spec = self.spec
        result = compress(
            model.graph,
            model.weights,
            parse_codec(codec),
            kept_codecs(spec.keep) if codec != "int8" else (),  # as in accel compare: what ratios refer to
            spec.scale,
            spec.vector_axis,
            seed=spec.seed,
            progress=lambda done, total, what: self.report(done, total, f"compressing to {codec}: {what}"),
            description=source_facts(model.source),
        )
        path = packed_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_packed(result.packed, path)
        return {
            "packed": key,
            "packed_digest": packed_digest(result.packed),
            "weights": str(model.source["weights"]),
            "bits_per_weight": bits_per_weight(result.reports),
            "relative_error": mean_relative_error(result.reports),
        }
