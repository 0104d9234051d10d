"""Squeeze: the real images train observers.

May import stages.units.
"""
