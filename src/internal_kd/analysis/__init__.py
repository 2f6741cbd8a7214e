"""From recorded predictions to tables, statistics, figures and a report: no torch, and never a second training.

``built`` says what a study's outputs were made from and is cheap to ask; everything else imports pandas and its
friends when it works.
"""
