"""Connectors: how a certificate authority is asked to issue. A library of its own that knows nothing of SCEP.

`api` is the contract, `registry` finds a connector by its type, `testing` proves one; every other module is one CA.
"""

from __future__ import annotations
