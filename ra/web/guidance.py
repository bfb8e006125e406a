"""What the service tells of itself in words, and how devices are pointed at it. Text only, and true of what is served."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ra.policy.profile import Profile
from ra.scep.names import Operation

OPERATIONS = (Operation.GET_CA_CAPS, Operation.GET_CA_CERT, Operation.GET_CA_CERT_CHAIN, Operation.PKI_OPERATION)
MESSAGE_TYPES = ("PKCSReq", "RenewalReq", "CertPoll")
"""Of every profile; whether there is more depends on the profiles."""


def operations(*, has_next_ca: bool) -> list[str]:
    """What is answered over HTTP."""
    served = [each.value for each in OPERATIONS]
    return served + [Operation.GET_NEXT_CA_CERT.value] * has_next_ca


def message_types(profiles: Iterable[Profile]) -> list[str]:
    """The messages that one of these profiles at least answers."""
    served = list(profiles)
    asked = {"GetCert": any(each.get_cert != "off" for each in served), "GetCRL": any(each.get_crl for each in served)}
    return [*MESSAGE_TYPES, *(name for name, is_served in asked.items() if is_served)]


FEATURES = (
    "several profiles, each with its own CA, challenge and rules, selected by path or ca_id",
    "enrolment by GET and by POST, with AES, SHA-256, SHA-384 and SHA-512, RSA key transport with PKCS #1 v1.5 or OAEP",
    "renewal without a challenge, by RenewalReq or PKCSReq that a valid certificate of the same profile signs",
    "the same request again gets the same certificate",
    "static challenges with labels and dates; one-time secrets; NDES's page and Jamf Pro's webhook, which hand them out",
    "challenges that step-ca's webhook receivers, a signature, a token's issuer, an inventory, a directory or a person decide on",
)

SECURITY = (
    "A profile lets nobody in without a challenge unless it says so.",
    "A certificate says what the profile allows; the extensions of a request are never copied.",
    "The signature of a message and that of the request in it are verified before anything is decided.",
    "Until a request is authenticated, failures found after decryption look alike, and none is answered before a fixed time.",
    "Who has presented a valid challenge is told in a fixed sentence which rule refuses the request.",
    "Every request is authorised, and committed to a journal, before a CA is asked for a certificate.",
    "SHA-1, 3DES, DES and MD5 are refused unless a profile lets them in, and each use is counted.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mdm:
    """Whether a device management can use this service today, and how."""

    works: bool
    how: str


MDM = {
    "microsoft_intune": Mdm(
        works=True,
        how='With a profile whose challenge is of type "intune", which asks Intune about every request.',
    ),
    "ios_mdm": Mdm(
        works=True,
        how="A SCEP payload (com.apple.security.scep) with this service's URL and a static challenge.",
    ),
    "android_enterprise": Mdm(
        works=True,
        how="Where the management's agent speaks SCEP, with a static challenge. Android wants an https URL.",
    ),
}


def instructions(url: str) -> dict[str, tuple[str, ...]]:
    """How to set up clients against the SCEP URL of one profile, by kind of client."""
    return {
        "microsoft_intune": (
            'Give the profile a challenge of type "intune", and the app registration scep_challenge_provider.',
            f"In Intune's SCEP profile set the SCEP server URL to {url}, and the root certificate to a trusted certificate profile.",
        ),
        "ios_mdm": (
            f"In the SCEP payload set URL to {url} and Challenge to the profile's challenge.",
            "Set Keysize to 2048 and Key Usage to 5 (signing and encryption); leave CAFingerprint empty or set it to the CA's.",
        ),
        "android_enterprise": (
            f"In the certificate template of the management set the SCEP server URL to {url}, over https.",
            "Choose a static challenge, RSA 2048 and SHA-256.",
        ),
        "cisco_ios": (
            f"crypto pki trustpoint RA / enrollment url {url} / password CHALLENGE / rsakeypair RA 2048 / hash sha256",
        ),
        "strongswan": (
            f"pki --scepca --url {url} --caout ca.crt --raout ra.crt",
            "pki --gen --type rsa --size 2048 --outform pem > key.pem",
            "trust='--cacert-enc ra.crt --cacert-sig ca.crt'",
            f"pki --scep --url {url} --password CHALLENGE --dn CN=device --in key.pem $trust --outform pem > certificate.pem",
            '# Up to 5.9.10 (Debian 12): give the profile preset = "strongswan-old".',
        ),
        "certmonger": (
            f"getcert add-scep-ca -c scep-ra -u {url}",
            'getcert request -c scep-ra -k "$PWD/key.pem" -f "$PWD/certificate.pem" -N CN=device -L CHALLENGE',
            "# It asks for nothing by itself: getcert list says whether the certificate has come.",
        ),
    }
