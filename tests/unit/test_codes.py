"""Numbers that set columns apart."""

import numpy as np
import pytest

from planner.table import codes


@pytest.mark.parametrize("seed", range(20))
def test_codes_tell_columns_apart_in_their_order_like_comparing_them(seed):
    rng = np.random.default_rng(seed)
    keys = [rng.integers(-low, 1 << width, 40) for low, width in ((0, 2), (3, 1), (0, 40), (5, 1), (0, 60))]
    keys = [np.where(rng.random(40) < 0.5, key, key[0]) for key in keys]  # so that some agree; spans beyond 64 bit
    _, first, number = np.unique(np.stack(keys), axis=1, return_index=True, return_inverse=True)
    _, first_code, number_code = np.unique(codes(keys), return_index=True, return_inverse=True)
    assert first_code.tolist() == first.tolist()
    assert number_code.tolist() == number.ravel().tolist()


def test_no_columns_have_no_codes():
    assert len(codes([np.zeros(0, dtype=np.int64)] * 2)) == 0
