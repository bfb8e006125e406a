"""`python -m ra` is `scep-ra`."""

from __future__ import annotations

from ra.cli import main

if __name__ == "__main__":
    main()
