"""The maths of the methods: tensors, numbers and keyed draws in, tensors out. No disk, no device of its own.

May import errors.
"""
