"""Training and judging students: losses, averages of weights, weight decay, accuracy.

May import nothing more.
"""
