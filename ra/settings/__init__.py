"""The configuration: what ra.toml may say, where else a value may come from, and what is wrong with it, in sentences.

model.py       the tables and their keys
sources.py     environment, secret files, TOML; secret references
complaints.py  what pydantic finds, as sentences
load.py        all of it together, and the checks that need more than one table
"""

from __future__ import annotations
