"""Modulated deformable convolution (DCN v2) in a ResNet's c3 to c5."""

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

_STAGES = ("layer2", "layer3", "layer4")


class ModulatedDeformConv2d(DeformConv2d):
    """A deformable convolution that predicts its own offsets and mask.

    The predicting layer starts at zero: no offsets, and a mask of one half everywhere, so that the layer starts as half
    the plain convolution. The weight has the plain convolution's name and shape.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take the place of `convolution`, with its geometry and weights."""
        # One number for both axes each, as in every convolution of a ResNet.
        kernel_size, stride, padding, dilation = (
            int(value[0])
            for value in (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
        )
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=convolution.groups,
            bias=convolution.bias is not None,
        )
        self.load_state_dict(convolution.state_dict())
        self.offset = nn.Conv2d(
            convolution.in_channels,
            3 * kernel_size**2,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, features: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Convolve `[batch, in_channels, height, width]` at learnt places with learnt weights in 0..1."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        offsets, mask = self.offset(features).split([2 * taps, taps], dim=1)
        return super().forward(features, offsets, mask.sigmoid())


def deform(body: nn.Module) -> None:
    """Make the second convolution of every block in c3 to c5 a deformable one, in place."""
    for stage in _STAGES:
        for block in getattr(body, stage):
            block.conv2 = ModulatedDeformConv2d(block.conv2)
