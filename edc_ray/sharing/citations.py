"""The papers behind the methods, as BibTeX."""

from __future__ import annotations

EDC = """@inproceedings{shao2024elucidating,
  title = {Elucidating the Design Space of Dataset Condensation},
  author = {Shao, Shitong and Zhou, Zikai and Chen, Huanran and Shen, Zhiqiang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  note = {arXiv:2404.13733}
}"""
_SRE2L = """@inproceedings{yin2023squeeze,
  title = {Squeeze, Recover and Relabel: Dataset Condensation at {ImageNet} Scale From A New Perspective},
  author = {Yin, Zeyuan and Xing, Eric and Shen, Zhiqiang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
  note = {arXiv:2306.13092}
}"""
_CDA = """@article{yin2023dataset,
  title = {Dataset Distillation in Large Data Era},
  author = {Yin, Zeyuan and Shen, Zhiqiang},
  journal = {arXiv preprint arXiv:2311.18838},
  year = {2023}
}"""
_GVBSM = """@inproceedings{shao2024generalized,
  title = {Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching},
  author = {Shao, Shitong and Yin, Zeyuan and Zhou, Muxin and Zhang, Xindong and Shen, Zhiqiang},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2024},
  note = {arXiv:2311.17950}
}"""
_RDED = """@inproceedings{sun2024diversity,
  title = {On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm},
  author = {Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2024},
  note = {arXiv:2312.03526}
}"""
_OTHERS = {"sre2l": _SRE2L, "cda": _CDA, "gvbsm": _GVBSM, "edc_a": _GVBSM, "rded": _RDED}


def citations(method: str | None) -> list[str]:
    """BibTeX of EDC and of the method, where that is another one or is not known to be EDC."""
    return [EDC, _OTHERS[method]] if method in _OTHERS else [EDC]
