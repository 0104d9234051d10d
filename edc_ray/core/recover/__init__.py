"""The optimisation of condensed images: loop, objective and its terms, matching, state.

May import core.settings, core.seeding, core.schedules, core.captured_step, core.pixels, core.layers and
core.views.
"""
