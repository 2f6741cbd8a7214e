"""MLflow as the window on the results: files are the truth, the window shows them and may be away.

names.py      what everything is called there; free of heavy imports
store.py      opening a store, also when it does not exist and many come first
content.py    from a study's finished runs to what is to be seen of them
publishing.py making the store show exactly that, as often as one likes
live.py       what a training tells while it runs; streaming.py is the process that passes it on
"""
