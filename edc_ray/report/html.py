"""One HTML page of a run, with its pictures inside. It fetches nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined

from edc_ray.report.table import ResultRow, ShownTable, results_table

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1d1d1f; background: #fff;
         max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .3rem .8rem; border-bottom: 1px solid #d8d8dc; text-align: left; }
  th { border-bottom: 2px solid #8a8a8f; }
  figure { margin: 1.2rem 0; overflow-x: auto; } figcaption { color: #55555a; }
  .images { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: flex-start; }
  img { max-width: 100%; } img.pixels { max-width: none; image-rendering: pixelated; }
  pre { background: #f5f5f7; padding: 1rem; overflow-x: auto; font-size: .8rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if rows.lines %}
<h2>Results</h2>
{{ rows.to_html() | safe }}
<p>Mean ± sample standard deviation over n trained students; ECE is the expected calibration error.</p>
{% endif %}
{% if classes.lines %}
<details>
  <summary>Accuracy of each class (top-1, %; mean over students)</summary>
  {{ classes.to_html() | safe }}
</details>
{% endif %}
{% for heading, pictures, kind in (("Images", images, "pixels"), ("Curves", curves, "plot")) if pictures %}
<h2>{{ heading }}</h2>
<div class="{{ heading | lower }}">
{% for picture in pictures %}
<figure>
  <figcaption>{{ picture.caption }}</figcaption>
  <img class="{{ kind }}" alt="{{ picture.caption }}" src="{{ picture.uri }}">
</figure>
{% endfor %}
</div>
{% endfor %}
<h2>Environment</h2>
<table>
  {% for name, value in environment.items() %}
  <tr><th>{{ name }}</th><td>{{ value }}</td></tr>
  {% endfor %}
</table>
<h2>Config</h2>
<pre>{{ config }}</pre>
</body>
</html>
"""


_TEMPLATE = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string(_PAGE)


@dataclass(frozen=True)
class Picture:
    """A PNG and the line that explains it."""

    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def render_page(
    *,
    title: str,
    rows: Sequence[ResultRow],
    images: Sequence[Picture],
    curves: Sequence[Picture],
    config: str,
    environment: Mapping[str, str],
    classes: ShownTable,
) -> str:
    """The page's HTML, with every given text escaped.

    Args:
        title: heading, such as the run's name.
        rows: the table of results; empty before evaluate is complete.
        images: grids of images, shown without scaling.
        curves: plots.
        config: the run's config as text.
        environment: versions, hardware, commit.
        classes: the accuracy of each class; left out if it has no lines.
    """
    return _TEMPLATE.render(
        title=title, rows=results_table(rows), images=images, curves=curves, config=config,
        environment=dict(environment), classes=classes,
    )  # fmt: skip
