from __future__ import annotations

import pytest
import torch

from stfpm_edge.networks import Pyramid, new_student
from stfpm_runtime.errors import OptionError


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [("resnet18", (64, 128, 256, 512)), ("resnet34", (64, 128, 256, 512)), ("resnet50", (256, 512, 1024, 2048))],
)
def test_every_block_has_its_stride_and_channels(backbone, channels):
    features = Pyramid(backbone, (2, 3, 4, 5)).eval()(torch.zeros(2, 3, 64, 96))
    assert [tuple(block.shape) for block in features] == [
        (2, c, 64 >> b, 96 >> b) for b, c in zip((2, 3, 4, 5), channels, strict=True)
    ]


def test_blocks_beyond_the_last_chosen_one_are_not_there():
    pyramid = Pyramid("resnet18", (3,))
    assert not any(name.startswith(("layer3", "layer4", "fc")) for name in pyramid.state_dict())
    assert len(pyramid(torch.zeros(1, 3, 32, 32))) == 1


@pytest.mark.parametrize("blocks", [(), (1, 2), (3, 2), (2, 2), (2, 6)])
def test_blocks_that_make_no_sense_are_refused(blocks):
    with pytest.raises(OptionError, match="expected one or more of 2, 3, 4, 5"):
        Pyramid("resnet18", blocks)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(OptionError, match="'vgg16'; expected one of resnet18"):
        Pyramid("vgg16", (2,))


def test_a_student_is_its_seeds_and_leaves_torchs_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (new_student("resnet18", (2,), seed) for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    assert torch.equal(first.conv1.weight, second.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
