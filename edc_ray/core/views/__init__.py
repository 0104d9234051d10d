"""Views of images as data: their parameters are drawn, stored and applied. Crops, mixing, augmentation.

May import core.settings, core.seeding, core.pixels and core.labels.
"""
