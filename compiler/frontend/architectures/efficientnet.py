"""EfficientNet-Lite0: MobileNetV2 blocks with 5x5 kernels, ReLU6, no squeeze-and-excite, SAME padding.

Source: Tan and Le, "EfficientNet", ICML 2019, and Google's Lite variants (2020); timm 1.0.31 ``tf_efficientnet_lite0``,
whose batch normalisation keeps TensorFlow's epsilon of 1e-3.
"""

from __future__ import annotations

from compiler.frontend.architectures.mobilenet import MobileNet, Stage

LITE0 = MobileNet(
    (
        Stage(1, 16, expansion=None),
        Stage(2, 24, 2),
        Stage(2, 40, 2, kernel=5),
        Stage(3, 80, 2),
        Stage(3, 112, kernel=5),
        Stage(4, 192, 2, kernel=5),
        Stage(1, 320),
    ),
    head=1280,
    epsilon=1e-3,
    same=True,
)
