"""Servers that behave like the products scep-ra talks to, with a real CA inside: to try a set-up, and to test against.

They hold everything in memory and forget it when they stop. Nothing here knows the service.
"""
