"""Whether an RSA modulus is one of those that generators with a known fault have made. Pure arithmetic.

The same tests that public CAs must make (CA/Browser Forum Baseline Requirements §6.1.1.3): small factors, the Infineon
generator of CVE-2017-15361 (its TPMs and smart cards are enrolled by SCEP), and primes that lie too close together
(CVE-2022-26320, printers).
"""

from __future__ import annotations

from math import gcd, isqrt, prod


def rsa_weakness(modulus: int) -> str | None:
    """What makes this modulus easy to factor, in words; None when nothing known does."""
    if gcd(modulus, _SMALL_PRODUCT) != 1:
        return "the modulus has a small factor"
    if _has_infineon_fingerprint(modulus):
        return "the modulus is of the generator of CVE-2017-15361 (ROCA)"
    if _has_close_factors(modulus):
        return "the factors of the modulus are too close together"
    return None


def _primes_below(limit: int) -> list[int]:
    return [each for each in range(2, limit) if all(each % divisor for divisor in range(2, isqrt(each) + 1))]


def _powers_of_65537(prime: int) -> frozenset[int]:
    return frozenset(pow(65537, exponent, prime) for exponent in range(prime - 1))


_SMALL_PRODUCT = prod(_primes_below(752))

# The faulty generator takes primes k * M + 65537^a mod M, M the product of the first primes, so that modulo each of
# these primes the modulus is a power of 65537. A sound modulus is, for all of them, once in 2^27.
_FINGERPRINT = tuple(
    (prime, powers) for prime in _primes_below(168)[1:] if len(powers := _powers_of_65537(prime)) < prime - 1
)

_FERMAT_DISTANCE = 110
_SQUARES_TO = 3465
_SQUARES = frozenset(each * each % _SQUARES_TO for each in range(_SQUARES_TO))


def _has_infineon_fingerprint(modulus: int) -> bool:
    return all(modulus % prime in powers for prime, powers in _FINGERPRINT)


def _has_close_factors(modulus: int) -> bool:
    """Fermat: looks for modulus = a^2 - b^2 with `a` within _FERMAT_DISTANCE of its least value.

    Most candidates are told by their remainders, so that the long numbers are multiplied for few.
    """
    least = isqrt(modulus - 1) + 1
    # A square is 0 or 1 modulo 4, hence `a` is odd where the modulus is 1 modulo 4, and even where it is 3.
    least += least % 2 != (modulus % 4 == 1)
    a, remainder = least % _SQUARES_TO, modulus % _SQUARES_TO
    return any(
        _is_square((least + step) ** 2 - modulus)
        for step in range(0, _FERMAT_DISTANCE, 2)
        if ((a + step) ** 2 - remainder) % _SQUARES_TO in _SQUARES
    )


def _is_square(number: int) -> bool:
    return isqrt(number) ** 2 == number
