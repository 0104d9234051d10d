"""A ConvNet in torch's own layers, one after the other.

Ours computes what follows a convolution in one pass. The plain network and the reference must not gain by
it.
"""

from __future__ import annotations

from torch import Tensor, nn

from edc_ray.models.convnet import ConvNet


class TorchLayers(nn.Module):
    """The same layers under the same names."""

    def __init__(self, network: ConvNet) -> None:
        super().__init__()
        self.features, self.classifier = network.features, network.classifier

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.classifier(self.features(images_BCHW).flatten(1))


def by_torch_layers(network: nn.Module) -> nn.Module:
    """A ConvNet in torch's own layers; other networks consist of torch's layers anyway."""
    return TorchLayers(network) if isinstance(network, ConvNet) else network
