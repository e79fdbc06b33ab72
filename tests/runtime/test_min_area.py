from __future__ import annotations

import numpy as np
import pytest

from stfpm_runtime.artifact.min_area import area_scores


def test_the_level_of_the_largest_region_by_hand():
    one = np.zeros((6, 6), np.float32)
    one[0, 0] = 9.0  # alone
    one[2, 2:4] = 5.0
    one[3, 4] = 4.0  # touches at a corner
    one[5, 0:3] = 1.0  # touches none of these
    found = [area_scores(one[None], area)[0] for area in (1, 2, 3, 4, 36, 100)]
    assert found == [9.0, 5.0, 4.0, 0.0, 0.0, 0.0]


def test_a_map_that_is_not_finite_is_no_score():
    assert np.isnan(area_scores(np.full((1, 4, 4), np.nan, np.float32), 2)[0])


@pytest.mark.parametrize("area", [2, 7, 30])
def test_the_score_exceeds_a_threshold_exactly_where_a_region_does(area):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(area)
    for _ in range(20):
        one = cv2.GaussianBlur(rng.random((40, 30)).astype(np.float32), (0, 0), 1.5)
        score = area_scores(one[None], area)[0]
        for threshold in (*rng.choice(one.ravel(), 5), score, np.nextafter(score, np.float32(-1))):
            sizes = cv2.connectedComponentsWithStats((one > threshold).astype(np.uint8), connectivity=8)[2][1:, -1]
            assert (score > threshold) == bool((sizes >= area).any())
