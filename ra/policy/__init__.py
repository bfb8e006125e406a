"""What may be certified: a profile, rules over what a device asks for, and the Decision they lead to. Pure."""

from __future__ import annotations
