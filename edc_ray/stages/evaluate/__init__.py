"""Evaluate: students are trained on the condensed set and on its controls.

May import stages.units, stages.squeeze, stages.init, stages.recover and stages.relabel.
"""
