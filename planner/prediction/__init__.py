"""Predicts deployments that are named, not searched, under a closed loop of clients."""

from planner.prediction.predict import predict_rows
from planner.prediction.prediction import Prediction
from planner.prediction.replicas import Asked, asked_of, evaluate

__all__ = ["Asked", "Prediction", "asked_of", "evaluate", "predict_rows"]
