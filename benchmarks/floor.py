"""The crypto floor: the private-key operations of one enrolment alone, in a loop, with nothing around them."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CONTENT_KEY = bytes(16)


def rate(*, processes: int, ca_key_bits: int, ra_key_bits: int = 2048, seconds: float = 2.0) -> float:
    """Enrolments per second that the private keys allow: one RA decryption, one RA signature, one CA signature each."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_loop, ca_key_bits, ra_key_bits, seconds) for _ in range(processes)]
        return sum(job.result() for job in jobs)


def _loop(ca_key_bits: int, ra_key_bits: int, seconds: float) -> float:
    ca_key = rsa.generate_private_key(65537, ca_key_bits)
    ra_key = rsa.generate_private_key(65537, ra_key_bits)
    wrapped = ra_key.public_key().encrypt(CONTENT_KEY, padding.PKCS1v15())
    message = bytes(1000)
    done = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        ra_key.decrypt(wrapped, padding.PKCS1v15())
        ra_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        ca_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        done += 1
    return done / elapsed
