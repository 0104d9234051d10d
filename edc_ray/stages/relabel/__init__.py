"""Relabel: observers give soft labels to views of the condensed images.

May import stages.units, stages.squeeze and stages.recover.
"""
