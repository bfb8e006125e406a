"""A connector that answers as it is told."""

from __future__ import annotations

from connectors.api import Capability, ConnectorError, Health, IssueRequest, IssueResult, NoCapabilities


class ToldConnector(NoCapabilities):
    """Answers every request alike and remembers what it was asked; an error is raised."""

    def __init__(
        self, answer: IssueResult | ConnectorError, chain: tuple[bytes, ...], *capabilities: Capability
    ) -> None:
        self.capabilities = frozenset(capabilities)
        self.requests: list[IssueRequest] = []
        self._answer = answer
        self._chain = chain

    async def issue(self, request: IssueRequest) -> IssueResult:
        self.requests.append(request)
        if isinstance(self._answer, ConnectorError):
            raise self._answer
        return self._answer

    async def ca_chain(self) -> tuple[bytes, ...]:
        return self._chain

    async def health(self) -> Health:
        return Health(ready=True, detail="")

    async def aclose(self) -> None:
        """Nothing is held open."""
