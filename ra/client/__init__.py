"""A small SCEP client on a codec of its own: `client.ScepClient` speaks to a server, the rest makes and reads messages.

It shares no code with ra.scep, so that each checks the other. Start with `client`; `requests` and `replies` are its two
halves and need no network. asn1crypto is seen by `csr`, `identifiers`, `signed`, `enveloped` and `bags` alone.
"""

from __future__ import annotations
