from __future__ import annotations

import numpy as np
import torch

from stfpm_edge.features import TeacherFeatures
from stfpm_edge.model import normalise_images, unit
from tiny_model import make_images

CPU = torch.device("cpu")


def test_features_are_the_same_in_memory_and_in_a_file(tiny, tmp_path):
    images = make_images(5)
    expected = [unit(block) for block in tiny.teacher(normalise_images(torch.from_numpy(images)))]
    for limit, in_memory in ((None, True), (0, False)):
        done = []
        with TeacherFeatures(tmp_path, limit) as features:
            features.compute(tiny.teacher, images, 2, CPU, done.append)
            assert features.in_memory == in_memory
            assert not list(tmp_path.iterdir())  # a process that is killed would leave it
            for block, wanted in zip(features.batch([4, 0], CPU), expected, strict=True):
                np.testing.assert_allclose(block, wanted[[4, 0]], atol=1e-6)
        assert done == [2, 4, 5]
        assert not list(tmp_path.iterdir())
