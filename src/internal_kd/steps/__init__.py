"""What each rule of the workflow does: join the plan, which knows folders, with the parts that compute.

They are loaded by their names when they work, so that planning stays quick. The versions of the steps
are in plan/recipes.py.
"""
