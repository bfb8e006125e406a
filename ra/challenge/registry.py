"""Finds a challenge validator by its type: a module beside this one, or an entry point of an installed package.

There is no second choice: what cannot be loaded stops the start.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ra import challenge
from ra.challenge.api import Validator
from ra.errors import Misconfigured

GROUP = "scep_ra.challenges"

_SUPPORT = frozenset({"api", "combine", "doors", "fetched", "jws", "one_time", "pages", "registry", "remote"})
"""Modules beside this one that are no validators."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A validator's module: `options` is a pydantic model, `connect` takes one and Services."""

    kind: str
    options: type[Any]
    connect: Callable[..., Coroutine[Any, Any, Validator]] = field(repr=False)


def built_in() -> tuple[EntryPoint, ...]:
    """The validators that come with scep-ra, in alphabetical order."""
    names = sorted(each.name for each in pkgutil.iter_modules(challenge.__path__) if each.name not in _SUPPORT)
    return tuple(EntryPoint(name, f"{challenge.__name__}.{name}", GROUP) for name in names)


def load(kind: str) -> Plugin:
    """The validator of that type.

    Raises:
        Misconfigured: there is none, there is more than one, or it does not load.
    """
    return choose(kind, (*built_in(), *entry_points(group=GROUP)))


def choose(kind: str, known: tuple[EntryPoint, ...]) -> Plugin:
    """As `load`, among these."""
    found = [each for each in known if each.name == kind]
    if not found:
        kinds = ", ".join(sorted({each.name for each in known}))
        raise Misconfigured(f'there is no challenge of type "{kind}"; there are: {kinds}')
    if len(found) > 1:
        sources = ", ".join(each.value for each in found)
        raise Misconfigured(f'the challenge type "{kind}" is claimed more than once: {sources}; remove all but one')
    return _plugin(found[0])


def _plugin(entry: EntryPoint) -> Plugin:
    try:
        module = entry.load()
        return Plugin(entry.name, module.Options, module.connect)
    except Exception as error:  # an edge: somebody else's module is imported, which may raise anything
        cause = f"{type(error).__name__}: {error}"
        raise Misconfigured(f'the challenge "{entry.name}" ({entry.value}) does not load: {cause}') from error
