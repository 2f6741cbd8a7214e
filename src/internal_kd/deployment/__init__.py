"""Students as others use them: how fast they are, and folders, cards and files to hand on."""
