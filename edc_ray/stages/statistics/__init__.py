"""Statistics: what observers see of the real images, layer by layer.

May import stages.units and stages.squeeze.
"""
