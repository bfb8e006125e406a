"""A CA that writes down everything it was asked and everything it issued, and the connectors that speak to it.

It stands for the worst CA there can be: it issues as often as it is asked, takes its time, decides some orders later, and
is never killed. What its book says is what the crash harness believes.
"""
