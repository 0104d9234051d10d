"""Init: the images that recovery starts from.

May import stages.units and stages.squeeze.
"""
