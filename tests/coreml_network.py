"""The network that Core ML's tests compress, in a file of its own: the tool runs in another process."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A convolution and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(8, 32, 3, padding=1), nn.Linear(32, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of ``x[1, 8, 6, 6]``."""
        pooled = torch.relu(self.conv(x)).mean((2, 3))
        scores: Tensor = self.head(torch.relu(self.fc(pooled)))
        return scores
