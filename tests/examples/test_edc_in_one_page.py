"""The example that shows the method on one page: short, only maths, and as good as the pipeline."""

from __future__ import annotations

import ast
import importlib.util

import torch

from tests.architecture.source_tree import ROOT

PAGE = ROOT / "examples" / "edc_in_one_page.py"
# README's table of `edc-ray run digits`, n = 3: condensed 90.74 +- 1.14, random_hard 70.67 +- 4.37.
PIPELINE_TOP1, RANDOM_HARD_TOP1 = 90.7, 70.7
# The page has another student, other observers and one seed.
TOLERANCE = 4.0


def test_the_page_has_at_most_150_lines_and_needs_nothing_of_ours_but_the_maths() -> None:
    text = PAGE.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    ours = {module for module in modules if module.startswith("edc_ray")}
    assert len(text.splitlines()) <= 150
    assert all(module.startswith("edc_ray.core.") for module in ours), ours
    others = {module.partition(".")[0] for module in modules - ours}
    assert others == {"collections", "copy", "functools", "numpy", "sklearn", "torch"}


def test_the_page_condenses_the_digits_about_as_well_as_the_pipeline() -> None:
    spec = importlib.util.spec_from_file_location("edc_in_one_page", PAGE)
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    threads = torch.get_num_threads()
    try:
        top1 = page.main()
    finally:
        torch.set_num_threads(threads)
    assert abs(top1["condensed"] - PIPELINE_TOP1) < TOLERANCE
    assert top1["condensed"] > RANDOM_HARD_TOP1 + 3 * TOLERANCE
