"""Versions in the order in which the distributions have them."""

import pytest

from vmimage.versions import compare_alpine, compare_debian


@pytest.mark.parametrize(
    "older, newer",
    [
        ("1.0", "1.1"),
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0-1"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("1.0-9", "1.0-10"),
        ("2.0", "1:1.0"),
        ("1.0a", "1.0b"),
        ("1.6.20~ds1-1", "1.6.20-1"),
        ("1.0-1+b1", "1.0-1+deb12u1"),
        ("6.1.192-2", "6.1.200-1"),
        ("1.0~~", "1.0~"),
        ("1.0+a", "1.0+b"),
    ],
)
def test_debian(older, newer):
    assert compare_debian(older, newer) < 0 < compare_debian(newer, older)
    assert compare_debian(older, older) == 0


@pytest.mark.parametrize(
    "older, newer",
    [
        ("1.0-r0", "1.0-r1"),
        ("1.9-r0", "1.10-r0"),
        ("1.0_rc1-r0", "1.0-r0"),
        ("1.0_alpha2", "1.0_beta1"),
        ("1.0-r9", "1.0_p1-r0"),
        ("1.0", "1.0.1"),
        ("1.0a", "1.0b"),
        ("1.05", "1.1"),
        ("1.0_pre1", "1.0_rc1"),
        ("20240705-r0", "20250619-r0"),
        ("1.0", "1.0_git20250101"),
    ],
)
def test_alpine(older, newer):
    assert compare_alpine(older, newer) < 0 < compare_alpine(newer, older)
    assert compare_alpine(older, older) == 0
