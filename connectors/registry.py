"""Finds a connector by its kind: a module beside this one, or an entry point of an installed package.

There is no second choice: what cannot be loaded stops the start.
"""

from __future__ import annotations

import pkgutil
from importlib.metadata import EntryPoint, entry_points

import connectors
from connectors.api import Misconfigured, Plugin

GROUP = "scep_ra.connectors"

_SUPPORT = frozenset(
    {"api", "certificates", "contents", "errors", "keyfiles", "registry", "testing", "transport", "usage"}
)
"""Modules beside this one that are no connectors."""


def built_in() -> tuple[EntryPoint, ...]:
    """The connectors that come with scep-ra, in alphabetical order."""
    names = sorted(each.name for each in pkgutil.iter_modules(connectors.__path__) if each.name not in _SUPPORT)
    return tuple(EntryPoint(name, f"connectors.{name}", GROUP) for name in names)


def load(kind: str) -> Plugin:
    """The connector of that kind.

    Raises:
        Misconfigured: there is none, there is more than one, or it does not load.
    """
    known = (*built_in(), *entry_points(group=GROUP))
    found = [each for each in known if each.name == kind]
    if not found:
        kinds = ", ".join(sorted({each.name for each in known}))
        raise Misconfigured(f'there is no connector of type "{kind}"; there are: {kinds}')
    if len(found) > 1:
        sources = ", ".join(each.value for each in found)
        raise Misconfigured(f'the connector type "{kind}" is claimed more than once: {sources}; remove all but one')
    return _plugin(found[0])


def _plugin(entry: EntryPoint) -> Plugin:
    try:
        module = entry.load()
        return Plugin(kind=entry.name, options=module.Options, connect=module.connect)
    except Exception as error:  # an edge: somebody else's module is imported, which may raise anything
        cause = f"{type(error).__name__}: {error}"
        raise Misconfigured(f'the connector "{entry.name}" ({entry.value}) does not load: {cause}') from error
