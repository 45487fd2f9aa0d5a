"""The residual block that the CNN and the dVAE each write for themselves: one must stay the
other's twin."""

import torch

from uar_nb.core import torch_rng
from uar_nb.tokenizer.dvae import Residual
from uar_nb.variants.cnn import ResidualBlock


def test_both_blocks_draw_and_compute_the_same():
    blocks = []
    for make in (ResidualBlock, Residual):
        with torch_rng('twins'):
            blocks.append(make(8))
    ours, theirs = blocks
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(w, theirs.state_dict()[k]) for k, w in ours.state_dict().items())
    with torch_rng('inputs'):
        x = torch.randn(3, 8, 7, 7)
        for block in blocks:
            torch.nn.init.constant_(block.add.weight, 0.3)
    gradients = []
    for block in blocks:
        y = block(x)
        assert not torch.equal(y, x)
        y.square().sum().backward()
        gradients.append([y.detach(), *(p.grad for p in block.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
