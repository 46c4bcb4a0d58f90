import itertools

import pytest
import torch
from torch import nn

from busi_tune.models import num_parameters
from busi_tune.models.unet import AttentionGate, UNet


def count_double_convolution(narrow: int, wide: int) -> int:
    return 9 * narrow * wide + 9 * wide * wide + 4 * wide


@pytest.mark.parametrize("width", [64, 3])
def test_has_the_classic_networks_number_of_weights(width: int) -> None:
    widths = [width * 2**level for level in range(5)]
    steps = list(itertools.pairwise(widths))
    down = sum(count_double_convolution(*step) for step in [(1, width), *steps])
    up = sum(count_double_convolution(wide, narrow) for narrow, wide in steps)
    upsample = sum(4 * wide * narrow + narrow for narrow, wide in steps)
    assert num_parameters(UNet(width)) == down + up + upsample + width + 1


def test_is_the_31_million_network_at_the_default_width() -> None:
    assert num_parameters(UNet()) == 31_036_481


@pytest.mark.parametrize("width", [1, 4, 6])
def test_each_level_has_twice_the_channels_of_the_one_above(width: int) -> None:
    widths = [level[0].out_channels for level in UNet(width).down]
    assert widths == [width, 2 * width, 4 * width, 8 * width, 16 * width]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 64)])
def test_logits_have_the_images_size(height: int, width: int) -> None:
    images = torch.rand(2, 1, height, width)
    assert UNet(2)(images).shape == images.shape


def test_a_skip_joins_each_level_of_the_decoder() -> None:
    network = UNet(2).eval()
    features = []
    for level in network.up:
        level.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    skips = []
    for level in network.down:
        level.register_forward_hook(lambda *call: skips.append(call[-1]))
    network(torch.rand(1, 1, 32, 32))
    for joined, skip in zip(features, skips[-2::-1], strict=True):
        torch.testing.assert_close(joined[:, : skip.shape[1]], skip)


def test_every_weight_gets_a_gradient() -> None:
    network: nn.Module = UNet(2)
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_attention_gates_add_their_weights_and_change_no_others() -> None:
    plain, gated = UNet(4), UNet(4, attention=True)
    assert {*plain.state_dict()} <= {*gated.state_dict()}
    # Of a skip of c channels: c -> c/2 at stride 2, 2c -> c/2 with bias, c/2 -> 1 with bias.
    gates = sum(4 * c * c // 2 + (2 * c + 1) * c // 2 + c // 2 + 1 for c in (32, 16, 8))
    assert num_parameters(gated) - num_parameters(plain) == gates


def test_a_gate_weighs_every_pixel_of_the_skip_by_0_to_1_over_all_channels() -> None:
    skip, below = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)
    weights = AttentionGate(4)(skip, below) / skip
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert ((weights > 0) & (weights < 1)).all()


def test_a_gate_is_steered_by_the_level_below() -> None:
    gate = AttentionGate(2)
    with torch.no_grad():
        for weight in gate.parameters():
            weight.fill_(0)
        gate.below.weight[0, 0], gate.score.weight[0, 0] = 1, 100
    below = torch.zeros(1, 4, 8, 8)
    below[0, 0, :, :4] = 1
    passed = gate(torch.ones(1, 2, 16, 16), below)
    torch.testing.assert_close(passed[..., :7], torch.ones(1, 2, 16, 7))
    torch.testing.assert_close(passed[..., 9:], torch.full((1, 2, 16, 7), 0.5))


def test_all_skips_but_the_finest_pass_a_gate() -> None:
    network = UNet(2, attention=True).eval()
    widths = []
    for gate in network.gates:
        gate.register_forward_hook(lambda *call: widths.append(call[-1].shape[1]))
    network(torch.rand(1, 1, 32, 32))
    assert widths == [16, 8, 4]
