"""The config of a whole run, and the names of the stages."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edc_ray.config.cluster import ClusterConfig, RunSection, StorageConfig, TrackingConfig
from edc_ray.config.dataset import DatasetSpec
from edc_ray.config.section import Section, StageSection, StatisticsRequest
from edc_ray.config.stages import (
    EvaluateConfig,
    InitConfig,
    RecoverConfig,
    RelabelConfig,
    SqueezeConfig,
    StatisticsConfig,
    SweepConfig,
)

Compile = Literal["auto", "none", "default", "max-autotune", "graphs"]
Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
StageName = str  # one of STAGE_NAMES; no Literal, which would repeat the sections of RunConfig


class RunConfig(Section):
    """Everything that determines a run. Two equal configs on equal data give equal artifacts."""

    method: str = "edc"
    ipc: int = Field(default=10, ge=1, description="condensed images per class")
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Precision = Field(
        default="auto",
        description="of networks' forwards and backwards; all else is float32. tf32: CUDA may round the "
        "factors of products to 10 bits. bfloat16, float16: networks in 16 bits, on cpu and cuda (float16 "
        "on a CPU is many times slower than float32). auto: float32; on CUDA tf32, as the published programs",
    )
    compile: Compile = Field(
        default="auto",
        description="auto: on CUDA the iterations of recover and the steps of trainings are captured as "
        "graphs. Else "
        "torch's compiler for networks in squeeze, recover, relabel and evaluate: minutes for "
        "each network and batch size before it gains anything. graphs: CUDA only, captured as graphs too",
    )
    deterministic: bool = Field(default=False, description="on CUDA: only deterministic kernels")
    run: RunSection = Field(default_factory=RunSection)
    storage: StorageConfig = Field(default_factory=StorageConfig)
    dataset: DatasetSpec
    # The stages, in the order of the pipeline.
    squeeze: SqueezeConfig
    statistics: StatisticsConfig = Field(default_factory=StatisticsConfig)
    init: InitConfig = Field(default_factory=InitConfig)
    recover: RecoverConfig = Field(default_factory=RecoverConfig)
    relabel: RelabelConfig = Field(default_factory=RelabelConfig)
    evaluate: EvaluateConfig

    sweep: SweepConfig = Field(default_factory=SweepConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)

    @field_validator("device", mode="before")
    @classmethod
    def _is_a_kind(cls, device: Any) -> Any:
        kind, _, number = str(device).lower().partition(":")
        if kind in ("gpu", "cuda") and device != "cuda":
            hint = f"; CUDA_VISIBLE_DEVICES={number} chooses the GPU" if number else ""
            raise ValueError(f"Input should be auto, cpu, cuda or mps{hint}")
        return device

    @model_validator(mode="after")
    def _observers_are_trained(self) -> RunConfig:
        named = {f"{name}.observers": getattr(section, "observers", None) or () for name, section in self}
        named["squeeze.weights"] = tuple(self.squeeze.weights)
        unknown = dict[str, list[str]]()
        for field, names in named.items():
            if missing := [name for name in names if name not in self.squeeze.observers]:
                unknown[field] = missing
        if unknown:
            listed = ", ".join(f"{field} names {names}" for field, names in unknown.items())
            unset = " ".join(
                "squeeze.weights={}" if field == "squeeze.weights" else f"{field}=null" for field in unknown
            )
            raise ValueError(f"squeeze.observers does not have what other fields name: {listed}; set {unset}")
        return self

    @model_validator(mode="after")
    def _observers_have_weights(self) -> RunConfig:
        squeeze = self.squeeze
        untrained = [name for name in squeeze.observers if name not in squeeze.weights]
        if squeeze.epochs == 0 and untrained:
            raise ValueError(f"squeeze.epochs=0 trains nothing, and squeeze.weights has none for {untrained}")
        if squeeze.head_classes is not None and len({*squeeze.head_classes}) < len(squeeze.head_classes):
            raise ValueError("squeeze.head_classes repeats an index")
        return self

    @model_validator(mode="after")
    def _sections_fit_together(self) -> RunConfig:
        recover, relabel, evaluate = self.recover, self.relabel, self.evaluate
        if evaluate.loss == "mse_ce_flat" and evaluate.ema_decay == 0:
            raise ValueError("evaluate.loss=mse_ce_flat needs averaged students: evaluate.ema_decay above 0")
        if recover.enabled and recover.carry == "chain" and recover.order != "official":
            raise ValueError(
                "recover.carry=chain hands estimates on along a virtual rank, and recover.order="
                f"{recover.order} has none: set recover.order=official, or recover.carry=reset"
            )
        step = evaluate.batch_size * evaluate.accumulation
        if evaluate.order == "groups" and step % relabel.mix_group:
            raise ValueError(
                f"evaluate.order=groups takes whole mixing groups, but a step of {step} images "
                "(evaluate.batch_size x evaluate.accumulation) is no multiple of "
                f"relabel.mix_group={relabel.mix_group}: make them fit, or set evaluate.order=shuffled"
            )
        if relabel.source is not None and relabel.labels == "online":
            raise ValueError(
                "relabel.source gives stored labels, and relabel.labels=online reads none: "
                "set relabel.labels=stored, or unset relabel.source"
            )
        if self.statistics.source is not None and not recover.enabled:
            raise ValueError(
                "statistics.source is for recover, and recover.enabled=false reads no statistics: "
                "set recover.enabled=true, or unset statistics.source"
            )
        return self

    def observers_of(self, stage: Literal["init", "recover", "relabel"]) -> tuple[str, ...]:
        return getattr(self, stage).observers or self.squeeze.observers

    @property
    def statistics_request(self) -> StatisticsRequest:
        """What the stages together ask the statistics stage for."""
        request = StatisticsRequest()
        for stage in STAGE_NAMES:
            request |= getattr(self, stage).statistics_request(self.squeeze.observers)
        return request

    @property
    def training_epochs(self) -> int:
        return self.evaluate.epochs or self.relabel.epochs


STAGE_NAMES: tuple[StageName, ...] = tuple(
    name
    for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, StageSection)
)
"""In the order of the pipeline. Each stage is `edc_ray.stages.<name>.stage.STAGE`."""
