"""Doing units in this process: one after the other, or several trainings at once, each as if it were alone.

May import stages.units.
"""
