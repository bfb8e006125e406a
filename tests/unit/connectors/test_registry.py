from __future__ import annotations

from pathlib import Path

import pytest

from connectors import internal, registry
from connectors.api import Misconfigured

PLUGIN = """
class Options: ...
async def connect(options, services): ...
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, kind: str, module: str, source: str) -> None:
    (site / f"{module}.py").write_text(source)
    metadata = site / f"{module}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[scep_ra.connectors]\n{kind} = {module}\n")


def test_a_built_in_kind_is_a_module_of_this_package() -> None:
    plugin = registry.load("internal")

    assert "internal" == plugin.kind
    assert internal.Options is plugin.options
    assert internal.connect is plugin.connect


@pytest.mark.parametrize("kind", ["no_such_ca", "", "api", "registry", "../internal", "internal.authority"])
def test_an_unknown_kind_is_answered_with_the_known_ones(kind: str) -> None:
    with pytest.raises(Misconfigured, match=r"there is no connector of type .*; there are: .*internal"):
        registry.load(kind)


def test_an_installed_package_brings_a_kind(site: Path) -> None:
    install(site, "acme_corp", "acme_corp_connector", PLUGIN)

    plugin = registry.load("acme_corp")

    assert "acme_corp_connector" == plugin.connect.__module__


def test_a_package_that_does_not_import_is_misconfigured(site: Path) -> None:
    install(site, "broken", "broken_connector", "raise RuntimeError('no such luck')")

    with pytest.raises(Misconfigured, match=r'"broken" \(broken_connector\) does not load: RuntimeError: no such luck'):
        registry.load("broken")


def test_a_module_without_options_is_misconfigured(site: Path) -> None:
    install(site, "empty", "empty_connector", "")

    with pytest.raises(Misconfigured, match=r"does not load: AttributeError: .*Options"):
        registry.load("empty")


def test_no_package_can_take_the_place_of_a_built_in_kind(site: Path) -> None:
    install(site, "internal", "impostor", PLUGIN)

    with pytest.raises(Misconfigured, match=r"claimed more than once: connectors\.internal, impostor"):
        registry.load("internal")
