"""Distillation: losses, objectives, curricula, teacher outputs and the training that uses them."""
