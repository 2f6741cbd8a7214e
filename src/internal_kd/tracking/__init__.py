"""MLflow as the window on the results: files are the truth, the window shows them and may be away.

names.py       what everything is called there, and what is announced; free of heavy imports
store.py       opening a store: a missing one, with many users at once, or one that is down or has moved
content.py     from a study's finished and running runs to what is shown of them
view.py        how MLflow's pages open: saved views
publishing.py  making the store show exactly that, as often as you like
"""
