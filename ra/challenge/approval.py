"""A person decides: the device is told PENDING until somebody has said yes or no.

```toml
[challenges.person]
type = "approval"
label = "the service desk"
```

`scep-ra transactions list --state awaiting-approval` shows who waits; `transactions approve` and `transactions deny`
decide. It knows no secret: it has to stand in an `all_of` beside a challenge that does, as otherwise any stranger could
fill the list of those who wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ra.challenge.api import Attempt, Services, Verdict
from ra.policy.grant import Grant


class Options(BaseModel):
    """The block of an approval."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    label: str = Field(default="a person", min_length=1, max_length=100)
    """Who decides, for lists and audit."""


@dataclass(frozen=True, slots=True)
class Approval:
    """Grants everything, once a person has approved it."""

    knows_secrets: ClassVar[bool] = False

    name: str
    label: str

    async def check(self, _attempt: Attempt) -> Verdict:
        return Grant(method=self.name, label=self.label, needs_approval=True)

    async def aclose(self) -> None:
        """Nothing is held open."""


async def connect(options: Options, services: Services) -> Approval:
    """Nothing is needed."""
    return Approval(services.name, options.label)
