import pytest
import torch
from torch import nn

from edc_ray.errors import ConfigError
from edc_ray.models.convnet import ConvNet, convnet_d1, convnet_d2, convnet_w32, convnet_w128


def _convolutions(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


def test_convolutions_have_the_published_names_and_there_is_no_batch_norm() -> None:
    network = convnet_w128(num_classes=10, image_size=32, channels=3)
    assert _convolutions(network) == ["features.0", "features.4", "features.8"]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("build", "depth", "width"), [(convnet_d1, 1, 128), (convnet_d2, 2, 128), (convnet_w32, 3, 32)]
)
def test_family_members_have_their_depth_and_width(build, depth: int, width: int) -> None:
    network = build(num_classes=10, image_size=32, channels=3)
    assert len(_convolutions(network)) == depth
    assert network.classifier.in_features == width * (32 >> depth) ** 2


def test_norm_equals_instance_norm() -> None:
    network = convnet_d1(num_classes=2, image_size=8, channels=1)
    x = torch.randn(2, 128, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.features[1](x), nn.functional.instance_norm(x))


def test_depth_follows_an_image_too_small_for_it() -> None:
    assert len(_convolutions(convnet_w32(num_classes=2, image_size=4, channels=1))) == 2


def test_a_fixed_depth_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"depth 4(.|\n)*8x8(.|\n)*16x16"):
        ConvNet(num_classes=2, image_size=8, channels=1, width=8, depth=4)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_and_gradients_are_those_of_its_layers_one_by_one(
    kernels: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDC_RAY_KERNELS", kernels)
    network = convnet_w32(num_classes=3, image_size=12, channels=channels)
    images = torch.randn(4, channels, 12, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    made = []
    for logits in (network(images), network.classifier(network.features(images).flatten(1))):
        network.zero_grad()
        images.grad = None
        logits.square().sum().backward()
        made.append([logits.detach(), images.grad, *(each.grad for each in network.parameters())])
    for name, found, expected in zip(["logits", "images", *network.state_dict()], *made, strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5 * scale + 1e-5, msg=name)


def test_an_autocast_runs_its_layers_one_by_one() -> None:
    network = convnet_w32(num_classes=3, image_size=8, channels=3)
    seen = []
    network.features[1].register_forward_hook(lambda *_: seen.append(True))
    network(torch.zeros(2, 3, 8, 8))
    assert not seen
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.zeros(2, 3, 8, 8))
    assert seen
