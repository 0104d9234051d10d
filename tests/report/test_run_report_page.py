from __future__ import annotations

import base64
import re

import numpy as np

from edc_ray.report.grid import write_grid
from edc_ray.report.run_report import Picture, render_page
from edc_ray.report.table import ResultRow, ShownTable

PNG = write_grid(np.zeros((1, 3, 64, 64), np.uint8), 1)
ROW = ResultRow("condensed", 3, "convnet", 3, 83.0, 3.61, None)


def page(**changes: object) -> str:
    arguments: dict[str, object] = {
        "title": "digits",
        "rows": [ROW],
        "images": [Picture("condensed images", PNG)],
        "curves": [Picture("recover", PNG)],
        "config": "seed: 0\n",
        "environment": {"torch": "2.15.0"},
        "classes": ShownTable("", [], []),
    }
    return render_page(**(arguments | changes))  # type: ignore[arg-type]


def test_the_page_shows_table_pictures_config_and_environment() -> None:
    html = page()
    for shown in ("<td>83.00 ± 3.61</td>", "condensed images", "seed: 0", "<td>2.15.0</td>"):
        assert shown in html


def test_pictures_are_inside_the_page_unchanged() -> None:
    uris = re.findall(r'src="data:image/png;base64,([^"]+)"', page())
    assert [base64.b64decode(uri) for uri in uris] == [PNG, PNG]


def test_the_page_fetches_nothing() -> None:
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)|url\(|@import|<script", page())


def test_given_texts_are_escaped() -> None:
    html = page(
        title="<b>run", config="a: <script>", environment={"<i>": "&"}, images=[Picture('"><img', PNG)]
    )
    for raw in ("<b>run", "a: <script>", "<i>", '"><img'):
        assert raw not in html


def test_a_run_without_results_has_no_table_of_results() -> None:
    html = page(rows=[], images=[], curves=[])
    assert "Results" not in html
    assert "<h2>Images" not in html
