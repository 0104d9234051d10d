"""Recover: the images are optimised until their statistics match those of the real ones.

May import stages.units, stages.squeeze, stages.statistics and stages.init.
"""
