"""Retraining triggers: what asks for a new model, who agrees, and how far it has come."""
