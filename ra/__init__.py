"""scep-ra: a SCEP registration authority in front of the certificate authority you already have."""

from __future__ import annotations

__version__ = "0.1.0"
