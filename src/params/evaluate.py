"""The section `evaluate` of params.yaml."""

from src.params.base import Section, UnitInterval


class EvaluateParams(Section):
    target_accuracy: UnitInterval
