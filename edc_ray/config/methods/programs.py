"""Values that the programs of the methods that EDC is compared with have in common.

A dataset that a program does not know gets the values of the most similar one; each such row says so.
"""

from __future__ import annotations

from edc_ray.config.methods.edc import TORCHVISION
from edc_ray.config.methods.values import Values

# Statistics of the whole set only, each term with weight 1, and nothing of the categories.
GLOBAL_ONLY: Values = {
    "recover.category_aware": "none", "recover.global_weight": 1.0, "recover.class_weight": 0.0,
    "recover.estimate_start": "zero", "recover.variance": "official", "recover.matching_weight": 0.01,
    "recover.image_rounding": "trunc",
}  # fmt: skip
# In all of their programs a student's batch is a mixing group; rates are the same for all students.
STUDENTS: Values = {"evaluate.order": "groups", "evaluate.learning_rates": {}}
# Knowledge distillation on the soft labels alone, of one network.
DISTILLED: Values = {
    **STUDENTS,
    "evaluate.loss": "kl", "evaluate.temperature": 20.0, "evaluate.optimizer": "adamw",
    "evaluate.learning_rate": 0.001, "evaluate.weight_decay": 0.01, "evaluate.schedule": "cos",
    "evaluate.ema_decay": 0.0,
}  # fmt: skip
STEEP: Values = {"evaluate.smoothing_factor": 1.0}

RESNET18: Values = {"squeeze.observers": ("resnet18",), "init.observers": None, "relabel.observers": None}
RESNET18_WEIGHTS: Values = {"squeeze.weights": {"resnet18": TORCHVISION["resnet18"]}}
RESNET18_SMALL: Values = {
    "squeeze.observers": ("resnet18_small",), "relabel.observers": None, "relabel.rand_augment": False,
}  # fmt: skip
# One small network with BatchNorm.
DIGITS: Values = {"squeeze.observers": ("wrn_16_2",), "evaluate.learning_rate": 0.005}
