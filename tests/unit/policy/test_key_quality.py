from __future__ import annotations

from math import isqrt

import pytest

from ra.policy.key_quality import rsa_weakness
from tests.fakes.csrs import rsa_key

MERSENNE_607 = 2**607 - 1
MERSENNE_521 = 2**521 - 1
INFINEON_PRIMES = [
    each for each in range(2, 354) if all(each % divisor for divisor in range(2, isqrt(each) + 1))
]  # the first 71 primes


def is_prime(number: int) -> bool:
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7))


def next_prime(number: int, step: int = 1) -> int:
    while not is_prime(number):
        number += step
    return number


def infineon_modulus() -> int:
    """Made as CVE-2017-15361 describes: primes k * M + 65537^a mod M."""
    primorial = 1
    for prime in INFINEON_PRIMES:
        primorial *= prime
    first = next_prime((1 << 60) * primorial + pow(65537, 1234, primorial), primorial)
    second = next_prime((1 << 61) * primorial + pow(65537, 5678, primorial), primorial)
    return first * second


def close_factors(gap: int) -> int:
    first = next_prime((1 << 511) + 1, 2)
    return first * next_prime(first + gap, 2)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_a_sound_key_has_no_weakness(bits: int) -> None:
    modulus = rsa_key(bits).public_numbers().n

    weakness = rsa_weakness(modulus)

    assert weakness is None


@pytest.mark.parametrize("factor", [2, 3, 7, 751])
def test_a_small_factor_is_found(factor: int) -> None:
    weakness = rsa_weakness(factor * MERSENNE_607)

    assert "the modulus has a small factor" == weakness


def test_a_modulus_of_the_infineon_generator_is_found() -> None:
    weakness = rsa_weakness(infineon_modulus())

    assert "the modulus is of the generator of CVE-2017-15361 (ROCA)" == weakness


@pytest.mark.parametrize("gap", [2, 1 << 40, 1 << 254], ids=["next", "near", "farther"])
def test_factors_that_lie_close_together_are_found(gap: int) -> None:
    weakness = rsa_weakness(close_factors(gap))

    assert "the factors of the modulus are too close together" == weakness


def test_a_square_is_found() -> None:
    weakness = rsa_weakness(MERSENNE_521**2)

    assert "the factors of the modulus are too close together" == weakness


def test_factors_of_unlike_size_are_not_taken_for_close_ones() -> None:
    weakness = rsa_weakness(MERSENNE_607 * MERSENNE_521)

    assert weakness is None
