"""The estimate of an LR2VQ codebook's rank: its two errors add up to that of the reconstruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel.codecs.base import to_vectors
from accel.errors import CodecError, ConfigError
from accel.plots import write_figure
from compiler.compress.kmeans import cluster
from compiler.compress.low_rank import principal_rows
from compiler.compress.rank import RankError, estimated_rank, mean_errors, rank_errors
from compiler.compress.rank_plot import rank_figure


def of_rank(rank: int, noise: float, length: int = 8) -> np.ndarray:
    """A matrix [8n, 40] whose vectors of 8 outputs lie in ``rank`` dimensions, but for noise."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(2000, rank)) @ random.normal(size=(rank, length))
    vectors += noise * random.normal(size=vectors.shape)
    return vectors.reshape(-1, 40, length).transpose(0, 2, 1).reshape(-1, 40).astype(np.float32)


def test_the_errors_are_those_of_the_reconstruction() -> None:
    weights = of_rank(3, 0.3)
    (found,) = rank_errors(weights, 16, 8, ranks=[2], scale="tensor", seed=1)
    vectors = to_vectors(weights, 8, "out").astype(np.float64)
    rows = principal_rows(vectors.astype(np.float32), 2)
    low = vectors @ rows.T
    norm = np.sqrt(np.square(weights, dtype=np.float64).mean())
    centroids = cluster((low / norm).astype(np.float32), 16, 1).astype(np.float64) * norm
    nearest = centroids[np.square(low[:, None] - centroids).sum(2).argmin(1)]
    power = np.square(vectors).sum()
    assert found.total == pytest.approx(np.square(vectors - nearest @ rows).sum() / power, rel=1e-4)
    assert found.low_rank_error == pytest.approx(np.square(vectors - low @ rows).sum() / power, rel=1e-4)


@pytest.mark.parametrize("rank", [1, 3])
def test_the_estimate_finds_the_rank_there_is(rank: int) -> None:
    errors = rank_errors(of_rank(rank, 0.01), 64, 8, scale="tensor")
    assert estimated_rank(errors) == rank
    assert [each.rank for each in errors] == list(range(1, 9))
    low = [each.low_rank_error for each in errors]
    clustering = [each.clustering_error for each in errors]
    assert low == sorted(low, reverse=True) and low[-1] == pytest.approx(0, abs=1e-9)
    assert clustering[:rank] == sorted(clustering[:rank])


def test_layers_count_by_their_weights() -> None:
    one, other = np.zeros((4, 4), np.float32), np.zeros((4, 12), np.float32)
    errors = [RankError(1, 0.4, 0.0)], [RankError(1, 0.0, 0.8)]
    assert mean_errors([one, other], errors) == (RankError(1, 0.1, pytest.approx(0.6)),)


def test_slack_trades_error_for_rank() -> None:
    errors = [RankError(1, 0.3, 0.1), RankError(2, 0.1, 0.2), RankError(3, 0.0, 0.29)]
    assert [estimated_rank(errors, slack) for slack in (0.0, 0.05, 0.5)] == [3, 2, 1]


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="rank 9 of vectors of 8 weights; allowed: 1 to 8"):
        rank_errors(of_rank(1, 0), 16, 8, ranks=[9])
    with pytest.raises(CodecError, match="NaN"):
        rank_errors(np.full((8, 8), np.nan, np.float32), 16, 8)


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    figure = rank_figure(rank_errors(of_rank(3, 0.1), 16, 8), "a layer")
    (axes,) = figure.axes
    assert "estimate: 3" in axes.get_xlabel() or "estimate: 4" in axes.get_xlabel()
    write_figure(figure, tmp_path / "rank.png")
    assert (tmp_path / "rank.png").stat().st_size > 10_000
