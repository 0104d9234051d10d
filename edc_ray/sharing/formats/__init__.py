"""Files of other programs: folders and tars of images, official images and labels.

May import nothing more.
"""
