"""Finished runs for others to use: folders that plain transformers opens, cards, ONNX, GLUE's files, answers.

choice.py           which run of a task
folders.py          where exports lie, and whether one is complete and current
scores.py           a run's recorded predictions and scores
model_folder.py     configuration with label names, weights, tokenizer; verified
onnx.py             the same as graphs in fp32 and int8; verified
glue_submission.py  predictions on GLUE's test sets
facts.py, words.py  what a card states, and how
card.py             the model card
export.py           all of it, for a study's tasks
answers.py          a run's answers as a file that other studies can learn from
"""
