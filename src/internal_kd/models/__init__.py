"""Models: encoders with classification heads, student initialisation, attention before dropout."""
