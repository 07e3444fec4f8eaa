"""The section `model` of params.yaml."""

from src.params.base import Section


class ModelParams(Section):
    name: str
    pretrained: bool
