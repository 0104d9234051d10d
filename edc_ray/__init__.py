"""edc-ray: condense a labelled image dataset into a few images per class plus soft labels."""

__version__ = "0.1.0"
