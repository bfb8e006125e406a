"""The one-time passwords of Microsoft's NDES: a management fetches one from the page `mscep_admin`, the device presents it.

```toml
[challenges.ndes]
type = "ndes"
path = "/certsrv/mscep_admin"
ttl_minutes = 60
length = 16
max_outstanding = 100
accounts = [{ label = "mdm", user = "mdm", password = "file:ndes-mdm.txt" }]
```

The page is what managements parse: UTF-16LE with a byte order mark, HTTP 200 for each of its three variants. Behind it
is a one-time secret as `otp` has them: a keyed digest is kept, it is spent by the commit that authorises, and another
key that presents it is an alarm. A password has 4 bits a character: 16 of them, which managements expect, are enough
while the page is the only place to get one and the journal keeps no more than digests under a key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pydantic import Field

from connectors.api import Secret
from ra.challenge.api import Attempt, Services, Verdict
from ra.challenge.doors import Admitted, Door, DoorOptions
from ra.challenge.one_time import NewSecret
from ra.challenge.otp import OneTime
from ra.challenge.pages import Listener, Page, PageAnswer, PagePath, PageRequest

_TITLE = "Network Device Enrollment Service"
_HEAD = (
    '<HTML><Head><Meta HTTP-Equiv="Content-Type" Content="text/html; charset=UTF-8">'
    f'<Title>{_TITLE}</Title></Head><Body BgColor=#FFFFFF><Font ID=locPageFont Face="Arial">'
    "<Table Border=0 CellSpacing=0 CellPadding=4 Width=100% BgColor=#008080><TR><TD>"
    '<Font ID=locPageTitleFont Face="Arial" Size=-1 Color=#FFFFFF>'
    f"<LocID ID=locMSCertSrv>{_TITLE}</LocID></Font></TD></TR></Table>"
    f"<P ID=locPageTitle> {_TITLE} allows you to obtain certificates for routers or other network devices using the "
    "Simple Certificate Enrollment Protocol (SCEP). </P>"
)
_TAIL = "</Font></Body></HTML>"

# What managements look for stands here word for word; the label must be the first word of its segment.
_GIVEN = (
    "<P> To complete certificate enrollment for your network device you will need the following information: "
    "<P> The thumbprint (hash value) for the CA certificate is: <B> {thumbprint} </B> "
    "<P> The enrollment challenge password is: <B> {password} </B> "
    "<P> This password can be used only once and will expire within {minutes} minutes. "
    "<P> Each enrollment requires a new challenge password. "
    "You can refresh this web page to obtain a new challenge password. </P>"
)
_FULL = (
    "<P> The password cache is full. <P> {title} stores unused password for later use. "
    "By default, passwords are stored for {minutes} minutes.<P>Use one of the existing passwords. "
    "If you cannot use an existing password: <UL> <LI> Wait until one or more existing passwords expire "
    "(by default passwords expire {minutes} minutes after they are created). </LI> "
    "<LI> Configure the service to cache more than {most} passwords. </LI> </UL> </P>"
)
_BARRED = (
    "<P> You do not have sufficient permission to enroll with SCEP.  Please contact your system administrator. </P>"
)


class Options(DoorOptions):
    """The block of an NDES challenge."""

    path: PagePath = "/certsrv/mscep_admin"
    """Where the page is; upper and lower case, and a slash at the end, do not count."""
    listener: Listener = Listener.PUBLIC
    """Which listener serves the page: `public`, where managements reach it as they reach NDES, or `admin`."""
    ttl_minutes: int = Field(default=60, ge=5, le=1440)
    """For so long a password is accepted; managements take 60 for granted."""
    length: Literal[16, 32] = 16
    """Characters of a password; some managements are told it, and most expect 16."""
    max_outstanding: int = Field(default=100, ge=1, le=100_000)
    """So many passwords of one account may be unused at a time; then the page says that the cache is full."""
    bom: bool = True
    """Whether the page begins with a byte order mark. NDES itself sends none; most managements read it either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ndes:
    """Grants what presents a password of the page, and serves the page."""

    options: Options
    services: Services = field(repr=False)
    door: Door = field(repr=False)
    one_time: OneTime = field(repr=False)

    async def check(self, attempt: Attempt) -> Verdict:
        return await self.one_time.check(attempt)

    @property
    def page(self) -> Page:
        return Page(path=self.options.path, listener=self.options.listener, methods=("GET",), answer=self._answer)

    async def _answer(self, request: PageRequest) -> PageAnswer:
        asking = self.door.open(request)
        if isinstance(asking, PageAnswer):
            return asking
        if asking.barred:
            return self._page(_BARRED, "barred", asking)
        now, minutes = self.services.now(), self.options.ttl_minutes
        password = self.services.entropy(self.options.length // 2).hex().upper()
        wanted = NewSecret(
            method=self.services.name,
            label=asking.label,
            created_at=now,
            expires_at=now + timedelta(minutes=minutes),
        )
        most, who = self.options.max_outstanding, f"{asking.label} at {asking.address}"
        if not await self.services.one_time.mint(wanted, Secret(password), who, most):
            return self._page(_FULL.format(title=_TITLE, minutes=minutes, most=most), "full", asking)
        text = _GIVEN.format(thumbprint=thumbprint(request.ca_certificate), password=password, minutes=minutes)
        return self._page(text, "minted", asking)

    def _page(self, text: str, outcome: str, asking: Admitted) -> PageAnswer:
        body = f"{_HEAD}{text}{_TAIL}".encode("utf-16-le")
        return PageAnswer(
            body=b"\xff\xfe" + body if self.options.bom else body,
            media_type="text/html",
            outcome=outcome,
            caller=asking.label,
        )

    async def aclose(self) -> None:
        """Nothing is held open."""


async def connect(options: Options, services: Services) -> Ndes:
    """Reads the passwords.

    Raises:
        Misconfigured: one is too short, or two cannot be told apart.
    """
    return Ndes(
        options=options,
        services=services,
        door=Door(options, (), services),
        one_time=OneTime(services.name, services.one_time),
    )


def thumbprint(certificate: bytes) -> str:
    """MD5 in groups of eight, as NDES shows it and SCEP clients compare it: it names the certificate, no more."""
    text = hashlib.md5(certificate, usedforsecurity=False).hexdigest().upper()
    return " ".join(text[start : start + 8] for start in range(0, len(text), 8))
