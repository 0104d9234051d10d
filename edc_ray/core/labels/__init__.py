"""Soft labels: their mean over observers, and the codecs that store them.

May import nothing more.
"""
