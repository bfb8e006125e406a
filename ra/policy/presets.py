"""What known clients need, as values for a profile's options: a profile takes them unless it sets an option itself.

No preset lets in DES or MD5 silently but the one that is named for them, and none opens what a challenge does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ra.scep.names import Legacy

PresetName = Literal["cisco-ios", "cisco-ios-old", "cisco-vpn", "juniper", "ndes", "scepclient-old", "strongswan-old"]

PRESETS: Mapping[PresetName, Mapping[str, Any]] = {
    # Defaults of IOS and IOS-XE before `hash sha256` was one: 3DES and SHA-1.
    "cisco-ios": {"legacy": frozenset({Legacy.DES3, Legacy.SHA1})},
    # Releases that know DES and MD5 alone, such as those of the 2800 series (Q14).
    "cisco-ios-old": {"legacy": frozenset({Legacy.DES3, Legacy.SHA1, Legacy.DES, Legacy.MD5})},
    # The VPN client wants the CA's certificate in the reply (Q7).
    "cisco-vpn": {"legacy": frozenset({Legacy.DES3, Legacy.SHA1}), "include_chain": True},
    # SRX seals with 3DES and SHA-1, and refuses a reply with more than its own certificate (Q7, Q9).
    "juniper": {"legacy": frozenset({Legacy.DES3, Legacy.SHA1}), "include_chain": False},
    # Clients that were set up for NDES, which has no AES and no SHA-2 and shows the CA first (RFC 8894 §3.5.2).
    "ndes": {"legacy": frozenset({Legacy.DES3, Legacy.SHA1}), "ca_cert_form": "ca-first"},
    # micromdm's scepclient up to 2.1 seals with DES and signs with SHA-1, whatever is announced.
    "scepclient-old": {"legacy": frozenset({Legacy.DES, Legacy.SHA1})},
    # Up to 5.9.10 it reads GetCACaps wrongly, and uses AES and SHA-256 only if it sees SHA-384 (Q24).
    "strongswan-old": {"capabilities_extra": ("SHA-384",)},
}
