"""Challenge validators: what makes a request the request of somebody we know.

`api` is the contract, `registry` finds a validator by its type, `combine` makes one of several; every other module is
one validator, with its configuration block in its docstring.
"""

from __future__ import annotations
