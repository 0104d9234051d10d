"""What a codec's specification says.

fp16              half precision, exactly
q8 ... q2         all logits in so many bits, on a grid of each label's own
pca64             principal components of the table's logits, 64 bits for each label
top16             the 16 largest logits in half precision and the mass of the others
top16_q6          the same, with kept logits of 6 bits
pca64_top4_q5     the largest logits over a background of principal components
top16t20          any `top`: the mass of the others is right at temperature 20 instead of 1
"""

from __future__ import annotations

import difflib
import re

from edc_ray.core.labels.codec import Fp16Codec, LabelCodec
from edc_ray.core.labels.components import ComponentsCodec
from edc_ray.core.labels.quantised import QuantisedCodec
from edc_ray.core.labels.top import TopCodec
from edc_ray.errors import ConfigError

_FORM = re.compile(
    r"(?:pca(?P<pca>[1-9]\d{0,4})(?:_(?=top)|(?!top)))?"
    r"(?:top(?P<top>[1-9]\d{0,4})(?:t(?P<warm>[1-9]\d{0,2}))?)?"
    r"(?:(?P<last>_?)q(?P<bits>\d{1,2}))?"
)
_EXAMPLES = ("fp16", "q8", "q6", "q4", "pca64", "top16", "top16_q6", "top16t20_q6", "pca64_top4_q5")
EXPECTED = f"one of the forms {', '.join(_EXAMPLES)}, with other numbers"


def label_codec(spec: str) -> LabelCodec:
    """The codec of a specification.

    Raises:
        ConfigError: it is none.
    """
    if spec == "fp16":
        return Fp16Codec()
    form = _FORM.fullmatch(spec)
    if not spec or form is None:
        near = difflib.get_close_matches(spec, _EXAMPLES, n=1, cutoff=0.5)
        raise _refused(spec, f" Did you mean '{near[0]}'?" if near else "")
    bits = None if form["bits"] is None else int(form["bits"])
    if bits is not None and not 2 <= bits <= 8:
        raise _refused(spec, f" q{bits}: logits have codes of 2 to 8 bits")
    components = ComponentsCodec(int(form["pca"])) if form["pca"] else None
    if form["top"]:
        if bits is not None and not form["last"]:
            raise _refused(spec, f" Did you mean '{spec.replace('q', '_q')}'?")
        warm = float(form["warm"] or 1)
        return TopCodec(int(form["top"]), bits, warm, components)
    if components is None:
        if bits is None or form["last"]:
            raise _refused(spec, "")
        return QuantisedCodec(bits)
    if bits is not None:
        raise _refused(spec, " The bits of principal components are dealt by the codec")
    return components


def _refused(spec: str, why: str) -> ConfigError:
    return ConfigError(f"'{spec}' is no label codec.{why}", expected=EXPECTED)
