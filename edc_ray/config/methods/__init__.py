"""One file for each method: its values, and its function from a config to a config. Imports `config` only."""
