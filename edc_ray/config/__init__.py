"""What a run is to do: frozen sections, datasets, recipes, YAML and overrides.

May import errors, own_code, core.settings, core.recover.settings and core.views.settings.
"""
