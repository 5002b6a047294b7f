"""Units are counted by how often they are on."""

import pytest
import torch

from nnlib.groupsort import undead_share


def test_undead_units_are_counted_by_how_often_they_are_on():
    linear = torch.nn.Linear(1, 3, bias=True)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0]]))
        linear.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    x = torch.tensor([[-1.0], [1.0], [2.0], [3.0]])  # on: 3/4, 1/4, always
    found = undead_share(torch.nn.Sequential(linear, torch.nn.ReLU()), x, torch.tensor([0.0, 0.5, 0.75, 1.0]))
    assert found.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="no ReLU"):
        undead_share(torch.nn.Sequential(linear), x, torch.tensor([0.5]))


def test_inputs_stay_as_they_are():
    """Breaks if a layer that works in place is given the user's own tensor."""
    x = torch.tensor([[1.0, -1.0]])
    assert undead_share(torch.nn.Sequential(torch.nn.ReLU(inplace=True)), x, torch.tensor([0.5])).item() == 0.5
    assert x.tolist() == [[1.0, -1.0]]
