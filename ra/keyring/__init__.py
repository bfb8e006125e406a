"""Loads and holds the RA's keys, and finds out at the start whether devices can work with them."""
