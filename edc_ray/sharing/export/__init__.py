"""Writing a condensed set for others: Hugging Face, image folders, the official programs.

May import sharing.run_facts and sharing.formats.
"""
