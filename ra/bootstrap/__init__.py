"""Builds the application by hand, top to bottom: the only place that knows everything.

clock.py      the machine's clock
plugins.py    connectors and validators, by their configuration
front.py      what answers: endpoints, and the CAs, keys and validators behind them
endpoints.py  one profile, joined to what answers for it
checks.py     what `serve`, `init` and `check-config` find out beforehand
worker.py     one worker process: from the journal up to the two applications
"""
