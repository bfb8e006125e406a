"""How managements read the page of NDES: each in a way of its own, written from what is known of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

FULL, BARRED = "The password cache is full", "You do not have sufficient permission to enroll with SCEP."


class NoPassword(Exception):
    """What a management says when the page holds no password."""


def read_as_fleet(page: bytes) -> str:
    """UTF-16LE by its mark, or by a NUL after `<`; then one regular expression, and two sentences for errors."""
    text = page.decode("utf-16") if page.startswith(b"\xff\xfe") else _guessed(page)
    for sentence in (FULL, BARRED):
        if sentence in text:
            raise NoPassword(sentence)
    found = re.search(r"(?i)The enrollment challenge password is: <B> (?P<password>\S*)", text)
    if found is None:
        raise NoPassword("no match")
    return found["password"]


def read_as_zentral(page: bytes) -> str:
    found = re.search(r"challenge password is: <B> ([A-Z0-9]{16,32}) </B>", page.decode("utf-16"))
    if found is None:
        raise NoPassword("no match")
    return found[1]


def read_between_sentences(page: bytes) -> str:
    """Tries encodings in turn, big-endian UTF-16 where there is no mark, and takes what stands between two sentences."""
    for encoding in ("utf-16", "utf-8", "ascii", "utf-16-be", "utf-16-le", "latin-1"):
        try:
            text = page.decode(encoding)
        except UnicodeDecodeError:
            continue
        if FULL in text:
            raise NoPassword(FULL)
        _, found, rest = text.partition("The enrollment challenge password is: <B> ")
        password, ended, _ = rest.partition(" </B> <P> This password can be used only once")
        if found and ended:
            return password
    raise NoPassword("no sentence")


def read_by_segments(page: bytes) -> str:
    """Splits at `>`: the label must begin one space into its segment, and the password is in the next."""
    text = page.decode("UTF-16")
    if "cache is full" in text:
        raise NoPassword(FULL)
    segments = text.split(">")
    for label, value in pairwise(segments):
        if label.find("The enrollment challenge password is:") == 1:
            return value.split("<")[0].strip()
    raise NoPassword("no segment")


def read_first_token(page: bytes) -> str:
    """The first word that is 16 hexadecimal digits: the thumbprint must not look like one."""
    words = page.decode("utf-16").split()
    found = [each for each in words if re.match("^[A-F0-9]{16}", each)]
    if not found:
        raise NoPassword("no word")
    return found[0]


READERS: tuple[Callable[[bytes], str], ...] = (
    read_as_fleet,
    read_as_zentral,
    read_between_sentences,
    read_by_segments,
    read_first_token,
)


def _guessed(page: bytes) -> str:
    return page.decode("utf-16-le") if page[:2] == b"<\x00" else page.decode("utf-8")
