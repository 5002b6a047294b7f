"""Counting by closed forms, and what a measurement leaves behind."""

import torch
from torch import nn

from nnlib.eigendamage import bottleneck, break_even, cost, seconds
from nnlib.models import VGG, ResNet


def test_operations_of_a_convolution_are_two_for_every_weight_and_position():
    layer = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert cost(layer, torch.zeros(4, 3, 9, 9)).flops == 2 * 8 * 3 * 9 * 25
    assert cost(nn.Linear(7, 5), torch.zeros(4, 7)).flops == 2 * 7 * 5


def test_the_first_map_of_a_bottleneck_runs_at_the_resolution_of_the_input_and_the_last_at_that_of_the_output():
    # 2 (c_in C H_in W_in + 9 C R H_out W_out + R c_out H_out W_out)
    layer = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
    rows, columns = torch.arange(32) < 10, torch.arange(16) < 6
    made = bottleneck(layer, torch.eye(16), torch.eye(32), rows, columns)
    found = cost(made, torch.zeros(1, 16, 12, 12))
    assert found.flops == 2 * (16 * 6 * 144 + 9 * 6 * 10 * 36 + 10 * 32 * 36)
    assert found.parameters == 16 * 6 + 9 * 6 * 10 + 10 * 32
    assert found.activations == 6 * 144 + 10 * 36 + 32 * 36


def test_the_papers_example_has_its_shares():
    # 512 channels, 3 x 3, 32 rows and columns kept: 0.69 %, 0.39 % and 0.69 % of the layer's weights.
    layer, kept = nn.Conv2d(512, 512, 3, bias=False), torch.arange(512) < 32
    made = bottleneck(layer, torch.eye(512), torch.eye(512), kept, kept)
    assert [round(100 * part.weight.numel() / layer.weight.numel(), 2) for part in made] == [0.69, 0.39, 0.69]


def test_break_even_shares_are_those_of_three_by_three_and_of_dense_layers():
    assert (round(break_even(3), 3), round(break_even(1), 3)) == (0.895, 0.414)


def test_networks_of_the_paper_have_their_layers_and_sizes():
    # VGG19: 16 convolutions, 20.0 million weights with scales and shifts, 398 million multiply-adds on 32 x 32.
    vgg = VGG(19, 3, affine=True, device="meta")
    found = cost(vgg, torch.zeros(1, 3, 32, 32, device="meta"))
    assert sum(isinstance(m, nn.Conv2d) for m in vgg.modules()) == 16
    weights = sum(9 * m.in_channels * m.out_channels for m in vgg.modules() if isinstance(m, nn.Conv2d))
    norms = sum(2 * m.num_features for m in vgg.modules() if isinstance(m, nn.BatchNorm2d))
    assert found.parameters == weights + norms + 512 * 10 + 10
    assert round(found.flops / 2 / 1e6) == 398
    resnet = ResNet(32, 3, width=4, affine=True, device="meta")
    assert {m.out_channels for m in resnet.modules() if isinstance(m, nn.Conv2d)} == {64, 128, 256}
    assert not any(m.bias is not None for m in resnet.modules() if isinstance(m, nn.Conv2d))


def test_measuring_leaves_modes_and_statistics_as_they_are():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[2].eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    cost(model, torch.ones(5, 3))
    assert min(seconds([model, model[0]], torch.ones(5, 3), repeats=1)) > 0
    assert [layer.training for layer in model] == [True, True, False]
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.modules())
