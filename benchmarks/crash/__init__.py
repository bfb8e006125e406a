"""Kills the RA over and over while devices enrol, and counts what that did to them.

`site` lays everything out, `replica` is the RA on trial, `keeper` starts and kills it at the `points`, `devices` enrol
with secrets from `minting`, and `judge` compares what they hold with the CA's ledger and with the journal. `trial` is
one database with one CA, `__main__` all of them.
"""
