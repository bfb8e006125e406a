"""What a challenge validator, or a valid renewal signer, has established. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """A one-time secret that the commit of the authorised request spends.

    Attributes:
        key: what identifies the secret, a keyed hash; never the secret.
        expires_at: when it may be forgotten (UTC).
    """

    key: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Somebody who wants to be told what became of the request he has let in.

    Attributes:
        validator: whose notification it is: its name in the configuration.
        is_strict: the device gets nothing before the notification is accepted.
        patience: for so long it is tried; then a certificate that waits for it is revoked.
    """

    validator: str
    is_strict: bool
    patience: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A request may go on to policy.

    Attributes:
        method: what granted it: a validator's name in the configuration, `renewal`, or `none` where no challenge is required.
        label: which of the validator's secrets or rules it was, for the audit; never the secret.
        attributes: what the validator knows of the device, for policy and audit.
        spend: a one-time secret to spend.
        notify: whom to tell of the outcome.
        is_strong: the challenge that was presented cannot be guessed (128 bits of entropy), so that a reply may be sealed
            with it.
        needs_approval: a person decides before the CA is asked.
        strips_sid: whoever let the request in has not looked at its Microsoft SID extension, and devices that send one are
            to be served all the same: it is left out, whatever the profile says of it.
        validity: how long the certificate is wanted to be valid, by whoever manages the device; never longer than the
            profile allows.
        sid: the Microsoft security identifier of the device's account, `S-1-…`, where the validator knows it.
    """

    method: str
    label: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    spend: Spend | None = None
    notify: tuple[Notify, ...] = ()
    needs_approval: bool = False
    is_strong: bool = False
    strips_sid: bool = False
    validity: timedelta | None = None
    sid: str | None = None
