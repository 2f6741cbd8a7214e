"""Learners: what may be trained or listened to, from its description to a network that hands out what losses read."""
