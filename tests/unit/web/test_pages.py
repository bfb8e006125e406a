from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from ra.challenge.pages import Listener, MountedPage, Page, PageAnswer, PageRequest, say
from ra.errors import Unavailable
from ra.web.app import build_admin, build_public
from ra.web.pages import MAX_BODY_BYTES
from tests.fakes.services import FakeRa, ask


class FakePage:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[PageRequest] = []
        self.answer: PageAnswer | Exception = say(200, "secret", "minted", ("X-Word", "word"))

    async def __call__(self, request: PageRequest) -> PageAnswer:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def sent(
    page: FakePage,
    method: str,
    path: str,
    *,
    listener: Listener = Listener.PUBLIC,
    ask_admin: bool = False,
    **options: Any,
) -> httpx.Response:
    mounted = Page(path="/certsrv/mscep_admin", listener=listener, methods=("GET", "POST"), answer=page)
    ra = FakeRa(pages=(MountedPage(page=mounted, ca_certificate=b"ca"),))
    app = build_admin(ra.services()) if ask_admin else build_public(ra.services())
    return asyncio.run(ask(app, method, path, **options))


@pytest.mark.parametrize("path", ["/certsrv/mscep_admin", "/certsrv/mscep_admin/", "/CertSrv/MSCEP_admin"])
def test_a_page_is_found_whatever_the_case_of_its_path(path: str) -> None:
    page = FakePage()

    response = sent(page, "POST", path, content=b"body", headers={"X-Key": "key"})

    assert (200, b"secret\n", "text/plain") == (
        response.status_code,
        response.content,
        response.headers["content-type"],
    )
    assert "word" == response.headers["x-word"]
    assert "no-store" == response.headers["cache-control"]
    assert (b"body", "key", b"ca") == (page.asked[0].body, page.asked[0].header("x-key"), page.asked[0].ca_certificate)


@pytest.mark.parametrize("path", ["/certsrv/mscep_admin/x", "/certsrv/mscep_admi", "/certsrv"])
def test_beside_its_path_there_is_nothing(path: str) -> None:
    page = FakePage()

    response = sent(page, "GET", path)

    assert 404 == response.status_code
    assert not page.asked


@pytest.mark.parametrize("listener", Listener)
def test_a_page_is_on_its_own_listener_alone(listener: Listener) -> None:
    statuses = [
        sent(FakePage(), "GET", "/certsrv/mscep_admin", listener=listener, ask_admin=is_admin).status_code
        for is_admin in (False, True)
    ]

    assert ([404, 200] if listener is Listener.ADMIN else [200, 404]) == statuses


def test_another_method_is_not_allowed() -> None:
    response = sent(FakePage(), "PUT", "/certsrv/mscep_admin")

    assert (405, "GET, POST") == (response.status_code, response.headers["allow"])


def test_a_body_that_is_too_long_is_not_read() -> None:
    page = FakePage()

    response = sent(page, "POST", "/certsrv/mscep_admin", content=b"x" * (MAX_BODY_BYTES + 1))

    assert 413 == response.status_code
    assert not page.asked


def test_a_body_that_is_compressed_is_not_read() -> None:
    response = sent(FakePage(), "POST", "/certsrv/mscep_admin", content=b"x", headers={"Content-Encoding": "gzip"})

    assert 415 == response.status_code


@pytest.mark.parametrize(
    ("answer", "status"), [(Unavailable("the database is away", 7), 503), (RuntimeError("a defect"), 500)]
)
def test_a_page_that_fails_hands_out_nothing(answer: Exception, status: int) -> None:
    page = FakePage()
    page.answer = answer

    response = sent(page, "GET", "/certsrv/mscep_admin")

    assert status == response.status_code


def test_of_a_header_that_comes_twice_nothing_is_believed() -> None:
    page = FakePage()

    sent(page, "GET", "/certsrv/mscep_admin", headers=[("X-Key", "1"), ("X-Key", "2")])

    assert page.asked[0].header("x-key") is None
